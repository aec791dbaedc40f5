package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/store"
)

func auditRecord(i int) audit.Record {
	return audit.Record{
		TimeMs: int64(1_800_000_000_000 + i), Box: testBox, Principal: "operator:ann", Action: []string{"kv.put", "auth.login"}[i%2],
		Resource: fmt.Sprintf("/config/%d", i), Outcome: audit.Allowed + audit.Outcome(i%3), Request: fmt.Sprint("r", i), Policy: "policy12",
	}
}

func auditRecords(from, to int) (rs []audit.Record) {
	for i := from; i < to; i++ {
		rs = append(rs, auditRecord(i))
	}
	return rs
}

func openAudit(t testing.TB, dir string, o store.AuditOptions) *store.Audit {
	t.Helper()
	o.Site, o.Box, o.Key = testSite, testBox, testKey()
	a, err := store.OpenAudit(dir, o)
	must(t, err)
	t.Cleanup(func() { must(t, a.Close()) })
	return a
}

// orderHeads does what the site does with heads: the next one is judged by the last, and kept. Nobody signs here.
func orderHeads(t testing.TB, a *store.Audit, top *audit.Top) {
	t.Helper()
	for {
		h, err := a.NextHead(*top)
		must(t, err)
		if h == nil {
			return
		}
		must(t, h.Extends(*top))
		*top = audit.Top{Size: h.Size, Root: h.Root}
		must(t, a.KeepHead(audit.Accepted(testSite, 1, uint64(h.Size), h)))
	}
}

func verifyAudit(t testing.TB, a *store.Audit) *audit.Report {
	t.Helper()
	l, err := a.Log()
	must(t, err)
	signed, err := a.Heads(testBox)
	must(t, err)
	var heads []audit.Head
	for i := range signed {
		heads = append(heads, signed[i].Head)
	}
	return audit.Verify(l, heads)
}

func TestTheAuditLogStaysAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	var leaves audit.Peaks
	n := 0
	for _, group := range []int{1, 31, 1, 100, 1024, 7} {
		a, err := store.OpenAudit(dir, store.AuditOptions{Site: testSite, Box: testBox, Key: testKey()})
		must(t, err)
		rs := auditRecords(n, n+group)
		at, err := a.Append(rs)
		if err != nil || at != int64(n) {
			t.Fatalf("%d records are put at %d (%v), want %d", group, at, err, n)
		}
		n += group
		for i := range rs {
			leaves.Add(audit.LeafHash(rs[i].Append(nil)))
		}
		if root, err := a.Root(int64(n)); err != nil || root != leaves.Root() {
			t.Fatalf("root %v (%v), want %v", root, err, leaves.Root())
		}
		must(t, a.Close())
		if _, err := a.Append(rs); !errors.Is(err, store.ErrClosed) {
			t.Errorf("append to a closed log: %v", err)
		}
	}
	a := openAudit(t, dir, store.AuditOptions{})
	if first, size, exported := a.Span(); first != 0 || size != int64(n) || exported != 0 {
		t.Errorf("span %d %d %d", first, size, exported)
	}
	i := 0
	must(t, a.Read(0, int64(n), audit.Filter{}, func(e *audit.Entry) bool {
		if e.Index != int64(i) || e.Record != auditRecord(i) {
			t.Errorf("at %d: %+v", i, e)
		}
		i++
		return true
	}))
	if i != n {
		t.Errorf("%d records are read, want %d", i, n)
	}
	var got []int64
	must(t, a.Read(10, 40, audit.Filter{Action: "auth.", Outcome: audit.Denied}, func(e *audit.Entry) bool {
		got = append(got, e.Index)
		return len(got) < 4
	}))
	if want := []int64{13, 19, 25, 31}; !slices.Equal(got, want) {
		t.Errorf("filtered: %v, want %v", got, want)
	}
	if grown, err := a.Grown(int64(n), 100); err != nil || len(grown) == 0 {
		t.Errorf("growth: %v %v", grown, err)
	}
}

func TestARecordOfTheDiskIsProvenByTheMembersKeys(t *testing.T) {
	a := openAudit(t, t.TempDir(), store.AuditOptions{})
	_, err := a.Append(auditRecords(0, 500))
	must(t, err)
	m := &coord.Members{Site: testSite, Epoch: 1}
	var ids []*trust.Identity
	for i := range 4 {
		id, err := trust.LoadOrCreate(t.TempDir())
		must(t, err)
		ids = append(ids, id)
		m.List = append(m.List, coord.Member{ID: id.ID(), Name: fmt.Sprint(i), Key: id.PublicKey(), Peer: "127.0.0.1:1"})
	}
	v, err := trust.NewVerifier(m)
	must(t, err)
	if _, err := a.Proof(3); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a proof without a head: %v", err)
	}
	h, err := a.NextHead(audit.Top{})
	must(t, err)
	s := audit.Accepted(m.Site, m.Epoch, 9, h)
	for i, id := range ids[1:] {
		s.Sigs = append(s.Sigs, coord.ReadSig{Voter: uint8(i + 1), Sig: id.SignReading(s.Digest())})
	}
	must(t, a.KeepHead(s))
	_, err = a.Append(auditRecords(500, 700)) // the head is not of the end
	must(t, err)
	for _, i := range []int64{0, 31, 32, 499} {
		p, err := a.Proof(i)
		must(t, err)
		if p.Record != auditRecord(int(i)) {
			t.Errorf("%+v", p.Record)
		}
		must(t, p.Check(m, v.VerifyReading))
	}
	if _, err := a.Proof(500); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a proof of what no head covers: %v", err)
	}
}

// Records go when they were exported and room is needed; what is left, and what went, stays proven.
func TestTheLogKeepsToItsBytes(t *testing.T) {
	for _, loop := range []bool{false, true} {
		t.Run(fmt.Sprintf("loop %v", loop), func(t *testing.T) {
			const limit = 256 << 10
			dir := t.TempDir()
			a := openAudit(t, dir, store.AuditOptions{BytesMax: limit, Loop: loop})
			var top audit.Top
			n, refused := 0, 0
			for n < 20_000 { // six times what fits
				_, err := a.Append(auditRecords(n, n+100))
				if errors.Is(err, store.ErrFull) && !loop {
					refused++
					if _, size, _ := a.Span(); size != int64(n) {
						t.Fatalf("a refused group is there: %d records, want %d", size, n)
					}
					must(t, a.MarkExported(int64(n)))
					continue
				}
				must(t, err)
				n += 100
				if a.Bytes() > limit {
					t.Fatalf("%d bytes, limit %d", a.Bytes(), limit)
				}
				orderHeads(t, a, &top)
			}
			first, size, _ := a.Span()
			if (refused > 0) == loop || first == 0 || size != int64(n) {
				t.Errorf("refused %d times, records %d to %d", refused, first, size)
			}
			if r := verifyAudit(t, a); !r.OK() || r.Proven != size || r.First != first {
				t.Errorf("%+v", r)
			}
			if _, err := a.Proof(first - 1); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a proof of what is gone: %v", err)
			}
			_, err := a.Proof(first)
			must(t, err)
			// Pages that are not full, the heads, and one step of growth.
			if got, most := fileBytes(t, dir), int64(2*limit+1<<20+1<<20); got > most {
				t.Errorf("the file has %d bytes, at most %d should be", got, most)
			} else {
				t.Logf("%d bytes", got)
			}
		})
	}
}

// Records leave in archives as the log fills, and all archives with what is left are the whole log.
func TestTheWholeLogIsInItsArchivesAndItself(t *testing.T) {
	a := openAudit(t, t.TempDir(), store.AuditOptions{BytesMax: 128 << 10})
	var top audit.Top
	var parts [][]byte
	n := 0
	for n < 5000 {
		_, err := a.Append(auditRecords(n, n+50))
		if errors.Is(err, store.ErrFull) {
			_, size, exported := a.Span()
			var part bytes.Buffer
			must(t, a.Archive(&part, exported, size))
			must(t, a.MarkExported(size))
			parts = append(parts, part.Bytes())
			continue
		}
		must(t, err)
		n += 50
		orderHeads(t, a, &top)
	}
	first, size, exported := a.Span()
	want(t, a.Archive(io.Discard, first-1, size), store.ErrNotFound)
	want(t, a.Archive(io.Discard, first, size+1), store.ErrNotFound)
	var last bytes.Buffer
	must(t, a.Archive(&last, exported, size))
	whole := &audit.Log{Box: testBox}
	for _, p := range append(parts, last.Bytes()) {
		l, err := audit.ReadArchive(bytes.NewReader(p), 1<<20)
		must(t, err)
		must(t, whole.Join(l))
	}
	signed, err := a.Heads(testBox)
	must(t, err)
	var heads []audit.Head
	for i := range signed {
		heads = append(heads, signed[i].Head)
	}
	if r := audit.Verify(whole, heads); !r.OK() || r.First != 0 || r.Proven != int64(n) || len(parts) < 2 {
		t.Errorf("%d archives: %+v", len(parts), r)
	}
}

// Many read, prove and order heads while records come and old ones go.
func TestTheLogIsReadWhileItGrows(t *testing.T) {
	a := openAudit(t, t.TempDir(), store.AuditOptions{BytesMax: 128 << 10, Loop: true})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				first, size, _ := a.Span()
				next := int64(-1)
				must(t, a.Read(first, size, audit.Filter{}, func(e *audit.Entry) bool {
					if next >= 0 && e.Index != next || e.Record != auditRecord(int(e.Index)) {
						t.Errorf("%d where %d should be", e.Index, next)
					}
					next = e.Index + 1
					return true
				}))
				if _, err := a.Root(size); err != nil {
					t.Error(err)
				}
				if _, err := a.Proof(first + (size-first)/2); err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
				}
				l, err := a.Log()
				must(t, err)
				if r := audit.Verify(l, nil); len(r.Faults) > 0 {
					t.Error(r)
				}
			}
		})
	}
	var top audit.Top
	for n := 0; n < 6000; n += 100 {
		_, err := a.Append(auditRecords(n, n+100))
		must(t, err)
		orderHeads(t, a, &top)
	}
	stop()
	wg.Wait()
	if first, _, _ := a.Span(); first == 0 {
		t.Error("nothing was pruned")
	}
}

// Hashes that no head covers stay, whatever was exported: without them the next head could not be made.
func TestWithoutHeadsTheLogFillsAndIsWhole(t *testing.T) {
	a := openAudit(t, t.TempDir(), store.AuditOptions{BytesMax: 64 << 10})
	n := 0
	for {
		_, err := a.Append(auditRecords(n, n+10))
		if err == nil {
			n += 10
			continue
		}
		if want(t, err, store.ErrFull); strings.Contains(err.Error(), "no head") {
			break
		}
		must(t, a.MarkExported(int64(n)))
	}
	var top audit.Top
	orderHeads(t, a, &top) // the site is back
	if top.Size != int64(n) || n < 1000 {
		t.Errorf("a head of %d records, want %d", top.Size, n)
	}
	_, err := a.Append(auditRecords(n, n+10))
	must(t, err)
}

func fileBytes(t *testing.T, dir string) int64 {
	i, err := os.Stat(filepath.Join(dir, "audit.db"))
	must(t, err)
	return i.Size()
}

// Whoever writes into the file is found, and the record is named.
func TestAnEditOfTheFileIsNamed(t *testing.T) {
	key := func(i byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, i} }
	for name, c := range map[string]struct {
		do   func(records *bolt.Bucket) error
		want audit.FaultKind
	}{
		"edited": {func(bk *bolt.Bucket) error {
			r := auditRecord(77)
			r.Outcome = audit.Allowed
			return bk.Put(key(77), r.Append(nil))
		}, audit.Edited},
		"not readable": {func(bk *bolt.Bucket) error { return bk.Put(key(77), []byte{1}) }, audit.Edited},
		"dropped":      {func(bk *bolt.Bucket) error { return bk.Delete(key(77)) }, audit.Dropped},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, err := store.OpenAudit(dir, store.AuditOptions{Site: testSite, Box: testBox, Key: testKey()})
			must(t, err)
			_, err = a.Append(auditRecords(0, 120))
			must(t, err)
			top := new(audit.Top)
			orderHeads(t, a, top)
			if r := verifyAudit(t, a); !r.OK() || r.Proven != 120 {
				t.Fatalf("%+v", r)
			}
			must(t, a.Close())
			db, err := bolt.Open(filepath.Join(dir, "audit.db"), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bolt.Tx) error { return c.do(tx.Bucket([]byte("records"))) }))
			must(t, db.Close())
			a = openAudit(t, dir, store.AuditOptions{})
			for range 2 { // the box that starts orders no head over it, however often it asks
				if h, err := a.NextHead(*top); h != nil || !errors.Is(err, audit.ErrRewritten) || !strings.Contains(err.Error(), "record 77 ") {
					t.Errorf("the next head: %v %v", h, err)
				}
			}
			r := verifyAudit(t, a)
			if len(r.Faults) != 1 || r.Faults[0].Kind != c.want || r.Faults[0].Index != 77 {
				t.Errorf("%v", r.Faults)
			}
		})
	}
}

func TestADamagedOrForeignAuditLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	a := openAudit(t, dir, store.AuditOptions{})
	_, err := a.Append(auditRecords(0, 40))
	must(t, err)
	foreign := auditRecord(1)
	foreign.Box[0] ^= 1
	_, err = a.Append([]audit.Record{foreign})
	want(t, err, store.ErrIdentity)
	_, err = a.Append([]audit.Record{{Box: testBox}})
	want(t, err, store.ErrFormat)
	_, err = a.Append(nil)
	want(t, err, store.ErrTooLarge)
	must(t, a.Close())
	_, err = store.OpenAudit(dir, store.AuditOptions{Site: coord.SiteID{9}, Box: testBox, Key: testKey()})
	want(t, err, store.ErrIdentity)
	db, err := bolt.Open(filepath.Join(dir, "audit.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("tiles")).Delete([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1})
	}))
	must(t, db.Close())
	_, err = store.OpenAudit(dir, store.AuditOptions{Site: testSite, Box: testBox, Key: testKey()})
	want(t, err, store.ErrDamaged)
}

func TestHeadsOfOtherBoxesAreKeptWithinBounds(t *testing.T) {
	a := openAudit(t, t.TempDir(), store.AuditOptions{})
	head := func(box byte, size int64) *audit.SignedHead {
		return audit.Accepted(testSite, 1, uint64(size), &audit.Head{Box: coord.BoxID{box}, Size: size, Marks: make([]byte, audit.HeadRecordsMax*audit.MarkBytes)})
	}
	const n = 300
	for i := range int64(n) {
		must(t, a.KeepHead(head(1, (i+1)*1000)))
	}
	hs, err := a.Heads(coord.BoxID{1})
	must(t, err)
	if len(hs) < 100 || len(hs) >= n || hs[len(hs)-1].Size != n*1000 {
		t.Errorf("%d heads of one box, the last of %d", len(hs), hs[len(hs)-1].Size)
	}
	for i := range 2*coord.MembersMax + 4 { // boxes come and go
		must(t, a.KeepHead(head(byte(10+i), int64(2_000_000+i))))
	}
	gone := 0
	for i := range 2*coord.MembersMax + 4 {
		if hs, err := a.Heads(coord.BoxID{byte(10 + i)}); err != nil || len(hs) == 0 {
			gone++
		}
	}
	if hs, _ := a.Heads(coord.BoxID{1}); len(hs) != 0 || gone != 4 {
		t.Errorf("%d heads of the box that was heard of longest ago, %d later ones are gone", len(hs), gone)
	}
}

func BenchmarkAuditAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := openAudit(b, b.TempDir(), store.AuditOptions{BytesMax: 1 << 30})
			rs := auditRecords(0, n)
			b.ReportAllocs()
			for b.Loop() {
				_, err := a.Append(rs)
				must(b, err)
			}
		})
	}
}

func BenchmarkAuditProof(b *testing.B) {
	a := openAudit(b, b.TempDir(), store.AuditOptions{BytesMax: 1 << 30})
	const n = 100_000
	for i := 0; i < n; i += 1000 {
		_, err := a.Append(auditRecords(i, i+1000))
		must(b, err)
	}
	must(b, a.KeepHead(audit.Accepted(testSite, 1, 1, &audit.Head{Box: testBox, Size: n})))
	b.Run("inclusion", func(b *testing.B) {
		for i := int64(0); b.Loop(); i++ {
			_, err := a.Proof(i * 7919 % n)
			must(b, err)
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for i := int64(0); b.Loop(); i++ {
			_, err := a.Grown(n, 1+i*7919%(n-1))
			must(b, err)
		}
	})
	b.Run("head", func(b *testing.B) {
		last := audit.Top{Size: n - 100}
		var err error
		last.Root, err = a.Root(last.Size)
		must(b, err)
		for b.Loop() {
			_, err := a.NextHead(last)
			must(b, err)
		}
	})
}
