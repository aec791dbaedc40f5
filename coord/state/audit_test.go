package state

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

// auditLog is a box's audit log in memory.
type auditLog struct {
	audit.Tree
	tiles map[[2]int64][]byte
}

func newAuditLog() *auditLog {
	l := &auditLog{tiles: map[[2]int64][]byte{}}
	l.Tree.Tile = func(level int, n int64) []byte { return l.tiles[[2]int64{int64(level), n}] }
	return l
}

func (l *auditLog) add(t *testing.T, texts ...string) {
	t.Helper()
	var leaves []coord.Digest
	for _, s := range texts {
		leaves = append(leaves, audit.LeafHash([]byte(s)))
	}
	err := l.Add(leaves, func(level int, n int64, b []byte) error {
		l.tiles[[2]int64{int64(level), n}] = bytes.Clone(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (l *auditLog) head(t *testing.T, box coord.BoxID, last audit.Top) string {
	t.Helper()
	h, err := l.NextHead(box, last)
	if err != nil || h == nil {
		t.Fatal(h, err)
	}
	return string(h.Append(nil))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHeadsOfAnAuditLogAreJudgedAndAskedToBeSigned(t *testing.T) {
	r, l := newRig(t), newAuditLog()
	order := func(value string) coord.Code { return r.one(coord.KindAudit, 0, 0, "", value).Code }
	l.add(t, "a", "b")
	if c := order(l.head(t, boxA, audit.Top{})); c != coord.CodeOK {
		t.Fatal(c)
	}
	asked := r.m.TakeAsked()
	if len(asked) != 1 || asked[0].Author != boxA || asked[0].Head == nil || asked[0].Head.Size != 2 || asked[0].Reading.Height != r.m.Height() {
		t.Fatalf("%+v", asked)
	}
	first := r.m.AuditTop(boxA)
	if first.Size != 2 {
		t.Fatalf("%+v", first)
	}

	// What the site remembers survives.
	r.commit()
	r.restart()
	if got := r.m.AuditTop(boxA); got != first {
		t.Fatalf("after a restart %+v, before %+v", got, first)
	}
	l.add(t, "c")
	grown := l.head(t, boxA, first)
	if c := order(grown); c != coord.CodeOK || r.m.AuditTop(boxA).Size != 3 {
		t.Fatal(c)
	}

	top := r.m.AuditTop(boxA)
	r.m.TakeAsked()
	other := newAuditLog()
	other.add(t, "a", "edited", "c", "d")
	rewritten, err := other.NextHead(boxA, audit.Top{Size: 3, Root: must(other.Root(3))})
	if err != nil {
		t.Fatal(err)
	}
	l.add(t, "d")
	shorter := *rewritten
	shorter.Size = 2
	for name, c := range map[string]struct {
		value   string
		accused error
	}{
		"nothing":            {"", nil},
		"of another box":     {l.head(t, boxB, top), nil},
		"no head":            {"xxxx", nil},
		"the same again":     {grown, nil},
		"a shorter log":      {string(shorter.Append(nil)), audit.ErrShortened},
		"a rewritten log":    {string(rewritten.Append(nil)), audit.ErrRewritten},
		"more behind a head": {l.head(t, boxA, top) + "x", nil},
	} {
		if c := order(c.value); c != coord.CodeBad {
			t.Errorf("%s: %v", name, c)
		}
		got := r.m.TakeAccused()
		if c.accused == nil && got != nil || c.accused != nil && (len(got) != 1 || got[0].Box != boxA || !errors.Is(got[0].Err, c.accused)) {
			t.Errorf("%s: accused %+v", name, got)
		}
	}
	if r.m.AuditTop(boxA) != top || r.m.TakeAsked() != nil {
		t.Error("a refused head took effect")
	}
}
