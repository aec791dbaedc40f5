package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// rig is a machine with a backend, and one author that numbers its batches.
type rig struct {
	t    testing.TB
	back *MemBackend
	m    *Machine
	seq  uint64
	res  []coord.Result
	due  bool
}

var boxA, boxB = coord.BoxID{0xa}, coord.BoxID{0xb}

// siteOf is a member set without keys.
func siteOf(ids ...coord.BoxID) *coord.Members {
	m := &coord.Members{Site: coord.SiteID{1}, Epoch: 1}
	for _, id := range ids {
		m.List = append(m.List, coord.Member{ID: id, Name: id.String()})
	}
	return m
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, back: NewMemBackend()}
	r.restart()
	return r
}

func (r *rig) restart() {
	r.t.Helper()
	m, err := New(r.back)
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
}

func (r *rig) begin() { r.m.Begin(&coord.Block{Height: r.m.Height() + 1}) }

// block applies one block of one batch by boxA.
func (r *rig) block(cols *coord.Columns) []coord.Result {
	r.t.Helper()
	r.begin()
	r.seq++
	res, effect := r.m.Batch(boxA, r.seq, r.seq-1, cols, r.res)
	r.res = res
	r.due = r.m.End()
	if err := r.m.Err(); err != nil {
		r.t.Fatal(err)
	}
	if !effect {
		r.t.Fatalf("batch %d took no effect", r.seq)
	}
	return res
}

// one applies a block of one message.
func (r *rig) one(k coord.Kind, session, seq uint64, key, value string) coord.Result {
	r.t.Helper()
	return r.block(cols(k, session, seq, key, value))[0]
}

func (r *rig) open(session uint64) {
	r.t.Helper()
	if res := r.one(coord.KindOpen, session, 0, "test", ""); res.Code != coord.CodeOK {
		r.t.Fatalf("open: %v", res.Code)
	}
}

func (r *rig) commit() { commit(r.back, r.m) }

func commit(b *MemBackend, m *Machine) {
	ch := m.Take()
	if ch == nil {
		return
	}
	if err := b.Commit(&coord.Commit{Header: &coord.Block{Height: m.Height()}, Changes: ch}); err != nil {
		panic(err)
	}
	m.Committed()
}

func cols(k coord.Kind, session, seq uint64, key, value string) *coord.Columns {
	c := new(coord.Columns)
	c.Add(k, session, seq, 0, []byte(key), []byte(value))
	return c
}

func object(n uint64) string { return string(key64(n)) }

func count(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

// dump is the whole content of a backend.
func dump(t testing.TB, b Backend) []byte {
	t.Helper()
	var out bytes.Buffer
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		if err := b.Scan(sp, nil, func(k, v []byte) bool {
			out.WriteByte(byte(sp))
			out.Write(binary.AppendUvarint(nil, uint64(len(k))))
			out.Write(k)
			out.Write(binary.AppendUvarint(nil, uint64(len(v))))
			out.Write(v)
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// failing is a backend whose reads fail while broken is set.
type failing struct {
	*MemBackend
	broken bool
}

var errDisk = errors.New("input/output error")

func (f *failing) Get(sp coord.Space, key []byte) ([]byte, bool, error) {
	if f.broken {
		return nil, false, errDisk
	}
	return f.MemBackend.Get(sp, key)
}
