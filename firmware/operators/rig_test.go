package operators

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/passkey"
)

// rig is a site of one box whose documents, clock and audit log a test can see. Hashes are quick: those of argon2id are tested by
// themselves.
type rig struct {
	*Desk
	mu      sync.Mutex
	docs    map[string]coord.Doc
	decided uint64
	records []audit.Record
	at      time.Time
	refuse  error
}

func (r *rig) Doc(key string) (coord.Doc, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.docs[key]
	return d, ok
}

func (r *rig) Docs(prefix string) (out []coord.Doc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, d := range r.docs {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			out = append(out, d)
		}
	}
	return out
}

func (r *rig) decide(_ context.Context, d *coord.Decision, _ By) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return r.refuse
	}
	r.decided++
	for _, w := range d.Writes {
		if r.docs[w.Key].Version != w.Was {
			return errors.New("stale")
		}
		r.docs[w.Key] = coord.Doc{Key: w.Key, Version: r.decided, Value: w.Value}
	}
	return nil
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

const (
	passkeyDomain = "box.example.org"
	passkeyPage   = "https://" + passkeyDomain
)

const setupCode = "ABCD-EFGH-IJKL-MNOP"

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{docs: map[string]coord.Doc{}, at: time.Unix(1e9, 0)}
	var err error
	r.Desk, err = NewDesk(Config{
		Documents: r, Decide: r.decide, Code: func() (string, error) { return setupCode, nil },
		Record: func(_ context.Context, x audit.Record) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.records = append(r.records, x)
			return nil
		},
		Passkeys: passkey.New(passkeyDomain, "site-1", r.now),
		First:    func() By { return By{Principal: "box:1"} }, Signer: func(s *Session) By { return By{Principal: s.Principal()} },
		Logger: slog.New(slog.DiscardHandler), Now: r.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.hash.hash = quick
	return r
}

func quick(password string, salt []byte, _ Params) []byte {
	h := sha256.Sum256(append([]byte(password), salt...))
	return h[:]
}

func from(source string) Try { return Try{Source: source + ":4711"} }

const (
	good  = "correct horse battery"
	other = "quite another staple"
)

func setUp(t *testing.T, r *rig) *Entry {
	t.Helper()
	e, err := r.Setup(t.Context(), setupCode, "ann", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func source(i int) Try { return from(fmt.Sprintf("203.0.%d.%d", i/250, i%250+1)) }
