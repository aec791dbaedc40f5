package api

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// Whatever is in a file of heads, it is read or refused, and what is read is written alike.
func FuzzReadAuditHeads(f *testing.F) {
	h := audit.Accepted(coord.SiteID{1}, 2, 3, &audit.Head{Box: coord.BoxID{4}, Size: 2, Root: coord.Digest{5}, Marks: make([]byte, 2*audit.MarkBytes)})
	h.Sigs = append(h.Sigs, coord.ReadSig{Voter: 1})
	line, err := json.Marshal(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(bytes.Clone(line), '\n'), line...))
	f.Add([]byte("{}\n[]"))
	f.Add(bytes.Repeat([]byte("x"), auditLineMax+1))
	f.Fuzz(func(t *testing.T, text []byte) {
		heads, err := ReadAuditHeads(bytes.NewReader(text))
		if err != nil {
			if heads != nil {
				t.Fatal("heads beside an error")
			}
			return
		}
		var again bytes.Buffer
		for i := range heads {
			if err := json.NewEncoder(&again).Encode(&heads[i]); err != nil {
				t.Fatal(err)
			}
		}
		back, err := ReadAuditHeads(&again)
		if err != nil || len(back) != len(heads) {
			t.Fatalf("%d heads, read again %d: %v", len(heads), len(back), err)
		}
	})
}
