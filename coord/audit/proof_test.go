package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

func TestAProofIsCheckedWithTheMembersKeysAlone(t *testing.T) {
	ids, m, v := site(t, 4)
	b := bookOf(t, 100, 10)
	head := audit.Accepted(m.Site, m.Epoch, 55, &b.heads[9])
	sign(head, ids, 0, 2, 3)
	path, err := b.tree.Include(100, 37)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(&audit.Proof{Entry: audit.Entry{Index: 37, Record: record(37)}, Path: path, Head: *head}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	read := func(t *testing.T, text []byte) *audit.Proof {
		t.Helper()
		p, err := audit.ReadProof(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := read(t, text).Check(m, v.VerifyReading); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do   func(p *audit.Proof)
		want error
	}{
		"another principal":  {func(p *audit.Proof) { p.Principal = "operator:eve" }, audit.ErrProof},
		"another outcome":    {func(p *audit.Proof) { p.Outcome = audit.Denied }, audit.ErrProof},
		"another place":      {func(p *audit.Proof) { p.Index = 36 }, audit.ErrProof},
		"a negative place":   {func(p *audit.Proof) { p.Index = -1 }, audit.ErrProof},
		"another box":        {func(p *audit.Proof) { p.Box = coord.BoxID{7} }, audit.ErrProof},
		"a path cut":         {func(p *audit.Proof) { p.Path = p.Path[1:] }, audit.ErrProof},
		"too long a text":    {func(p *audit.Proof) { p.Reason = strings.Repeat("x", 1000) }, audit.ErrRecord},
		"another root":       {func(p *audit.Proof) { p.Head.Root[0] ^= 1 }, audit.ErrUnproven},
		"another height":     {func(p *audit.Proof) { p.Head.Height++ }, audit.ErrUnproven},
		"another site":       {func(p *audit.Proof) { p.Head.Site[0] ^= 1 }, audit.ErrUnproven},
		"another epoch":      {func(p *audit.Proof) { p.Head.Epoch++ }, audit.ErrUnproven},
		"other marks":        {func(p *audit.Proof) { p.Head.Marks[0] ^= 1 }, audit.ErrUnproven},
		"marks and digest":   {func(p *audit.Proof) { p.Head.Marks[0] ^= 1; p.Head.MarksDigest = sha256.Sum256(p.Head.Marks) }, audit.ErrUnproven},
		"all of another box": {func(p *audit.Proof) { p.Box[0] ^= 1; p.Head.Box[0] ^= 1 }, audit.ErrUnproven},
		"signed elsewhere":   {func(p *audit.Proof) { p.Head.Site[0] ^= 1; p.Head.Sigs = nil; sign(&p.Head, ids, 0, 1, 2) }, audit.ErrUnproven},
		"no marks":           {func(p *audit.Proof) { p.Head.Marks = nil }, nil},
		"two signatures":     {func(p *audit.Proof) { p.Head.Sigs = p.Head.Sigs[:2] }, audit.ErrUnproven},
		"one of them twice":  {func(p *audit.Proof) { p.Head.Sigs[1] = p.Head.Sigs[0] }, audit.ErrUnproven},
		"one of a stranger":  {func(p *audit.Proof) { p.Head.Sigs[2].Voter = 9 }, audit.ErrUnproven},
		"a signature broken": {func(p *audit.Proof) { p.Head.Sigs[2].Sig[3] ^= 1 }, audit.ErrUnproven},
	} {
		t.Run(name, func(t *testing.T) {
			p := read(t, text)
			c.do(p)
			again, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := read(t, again).Check(m, v.VerifyReading); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A box that put another's name on a record of its own log convinces nobody, though a quorum signed the log.
func TestARecordInAnothersNameIsNoProof(t *testing.T) {
	ids, m, v := site(t, 4)
	b := newBook()
	r := record(0)
	r.Box[0] ^= 1
	b.add(t, r)
	b.order(t)
	p := &audit.Proof{Entry: audit.Entry{Record: r}, Head: *audit.Accepted(m.Site, m.Epoch, 5, &b.heads[0])}
	sign(&p.Head, ids, 0, 1, 2)
	if err := p.Check(m, v.VerifyReading); !errors.Is(err, audit.ErrProof) {
		t.Errorf("%v, want %v", err, audit.ErrProof)
	}
}

func TestTooMuchIsNotRead(t *testing.T) {
	if _, err := audit.ReadProof(strings.NewReader("{}" + strings.Repeat(" ", 64<<10))); !errors.Is(err, audit.ErrProof) {
		t.Errorf("a long proof: %v", err)
	}
	r := record(1)
	if _, err := audit.Decode(append(r.Append(nil), 0)); !errors.Is(err, audit.ErrRecord) {
		t.Errorf("a byte behind a record: %v", err)
	}
}

func TestALongNameStaysItsOwn(t *testing.T) {
	long := strings.Repeat("ä", 2000)
	a, b := audit.Record{Resource: long + "a", Outcome: audit.Allowed}, audit.Record{Resource: long + "b", Outcome: audit.Allowed}
	a.Clip()
	b.Clip()
	if a.Check() != nil || b.Check() != nil || a.Resource == b.Resource || !strings.HasPrefix(a.Resource, "ää") {
		t.Errorf("%q and %q", a.Resource, b.Resource)
	}
	if c := (audit.Record{Resource: "\xff\x00", Outcome: audit.Allowed}); c.Check() == nil {
		t.Error("what is not UTF-8 passes")
	} else if c.Clip(); c.Check() != nil || c.Resource != `"\xff\x00"` {
		t.Errorf("%q", c.Resource)
	}
}

func TestTheFilterChooses(t *testing.T) {
	r := record(5)
	for f, want := range map[audit.Filter]bool{
		{}: true, {Action: "kv.put"}: true, {Action: "kv."}: true, {Action: "k."}: false, {Action: "kv"}: false,
		{Principal: "operator:ann"}: true, {Principal: "operator:an"}: false, {Resource: "/config/"}: true, {Resource: "/x"}: false,
		{Outcome: audit.Denied}: false, {Request: "r5"}: true, {FromMs: r.TimeMs}: true, {ToMs: r.TimeMs}: false, {FromMs: r.TimeMs + 1}: false,
	} {
		if f.Matches(&r) != want {
			t.Errorf("%+v: %v", f, !want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := record(1)
	f.Add(r.Append(nil))
	b := bookOf(f, 40, 10)
	f.Add(b.heads[1].Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := audit.Decode(data); err == nil && !bytes.Equal(r.Append(nil), data) {
			t.Errorf("%x is a second encoding of %+v", data, r)
		}
		if h, err := audit.DecodeHead(data); err == nil {
			if !bytes.Equal(h.Append(nil), data) {
				t.Errorf("%x is a second encoding of %+v", data, h)
			}
			_ = h.Extends(audit.Top{Size: 30})
		}
	})
}

func FuzzReadProof(f *testing.F) {
	ids, m, v := site(f, 4)
	b := bookOf(f, 20, 10)
	head := audit.Accepted(m.Site, m.Epoch, 5, &b.heads[1])
	sign(head, ids, 0, 1, 2)
	path, _ := b.tree.Include(20, 3)
	good := &audit.Proof{Entry: audit.Entry{Index: 3, Record: record(3)}, Path: path, Head: *head}
	text, _ := json.Marshal(good)
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := audit.ReadProof(bytes.NewReader(data))
		if err != nil {
			return
		}
		if p.Check(m, v.VerifyReading) == nil && (p.Record != good.Record || p.Index != good.Index) {
			t.Errorf("proven: %+v", p)
		}
	})
}
