package state

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

// What each message answers, in one session and order, with the revision after it.
func TestMessagesAnswerWhatTheirKindPromises(t *testing.T) {
	r := newRig(t)
	r.open(7)
	for i, step := range []struct {
		name       string
		kind       coord.Kind
		session    uint64
		seq        uint64
		key, value string
		want       coord.Result
	}{
		{"a put makes a revision", coord.KindPut, 7, 1, "k", "v1", coord.Result{Revision: 2}},
		{"a get reads it at its place", coord.KindGet, 7, 2, "k", "", coord.Result{Revision: 2, Found: true, Value: []byte("v1")}},
		{"an empty value exists", coord.KindPut, 7, 3, "e", "", coord.Result{Revision: 3}},
		{"and is read as such", coord.KindGet, 7, 4, "e", "", coord.Result{Revision: 3, Found: true, Value: []byte{}}},
		{"a delete makes a revision", coord.KindDelete, 7, 5, "k", "", coord.Result{Revision: 4, Found: true}},
		{"but not when there is no key", coord.KindDelete, 7, 6, "k", "", coord.Result{Revision: 4}},
		{"a get of nothing finds nothing", coord.KindGet, 7, 7, "k", "", coord.Result{Revision: 4}},
		{"a retried put answers its own revision", coord.KindPut, 7, 1, "k", "v1", coord.Result{Revision: 2, Duplicate: true}},
		{"a retried delete answers what it found", coord.KindDelete, 7, 5, "k", "", coord.Result{Revision: 4, Duplicate: true, Found: true}},
		{"a retried get reads again", coord.KindGet, 7, 4, "e", "", coord.Result{Revision: 4, Duplicate: true, Found: true, Value: []byte{}}},
		{"number 0 is no number", coord.KindPut, 7, 0, "k", "v", coord.Result{Code: coord.CodeBad, Revision: 4}},
		{"an unknown session is told so", coord.KindPut, 8, 1, "k", "v", coord.Result{Code: coord.CodeNoSession, Revision: 4}},
		{"an unknown kind is malformed", coord.Kind(99), 7, 8, "k", "v", coord.Result{Code: coord.CodeBad, Revision: 4}},
		{"and its number is used up", coord.KindPut, 7, 8, "k", "v", coord.Result{Duplicate: true}},
		{"an object is 8 bytes", coord.KindObserve, 7, 9, "short", "", coord.Result{Code: coord.CodeBad, Revision: 4}},
		{"a count is one varint", coord.KindObserve, 7, 10, object(1), "\x01\x02", coord.Result{Code: coord.CodeBad, Revision: 4}},
		{"of at least 1", coord.KindObserve, 7, 11, object(1), "\x00", coord.Result{Code: coord.CodeBad, Revision: 4}},
		{"an access makes no revision", coord.KindObserve, 7, 12, object(1), "", coord.Result{Revision: 4}},
		{"a number far ahead must wait", coord.KindPut, 7, 13 + SessionAheadMax, "k", "v", coord.Result{Code: coord.CodeWindow, Revision: 4}},
		{"the last that need not", coord.KindPut, 7, 12 + SessionAheadMax, "k", "v", coord.Result{Revision: 5}},
		{"session 0 cannot be opened", coord.KindOpen, 0, 0, "me", "", coord.Result{Code: coord.CodeBad, Revision: 5}},
		{"opening again changes nothing", coord.KindOpen, 7, 0, "me", "", coord.Result{Revision: 5, Duplicate: true}},
		{"a put that was in flight meanwhile stays done", coord.KindPut, 7, 12 + SessionAheadMax, "k", "v", coord.Result{Revision: 5, Duplicate: true}},
	} {
		got := r.one(step.kind, step.session, step.seq, step.key, step.value)
		if got.Code != step.want.Code || got.Duplicate != step.want.Duplicate || got.Revision != step.want.Revision ||
			got.Found != step.want.Found || !bytes.Equal(got.Value, step.want.Value) || (got.Value == nil) != (step.want.Value == nil) {
			t.Errorf("%d: %s: got %+v, want %+v", i, step.name, got, step.want)
		}
	}
}

func TestAKeyHasRevisionsAsInEtcd(t *testing.T) {
	r := newRig(t)
	r.open(1)
	r.one(coord.KindPut, 1, 1, "other", "x")
	r.one(coord.KindPut, 1, 2, "k", "a")
	r.one(coord.KindPut, 1, 3, "k", "b")
	check := func(value string, create, mod, version uint64) {
		t.Helper()
		kv, found, err := r.m.Get([]byte("k"))
		if err != nil || !found || string(kv.Value) != value || kv.CreateRevision != create || kv.ModRevision != mod || kv.Version != version {
			t.Fatalf("got %+v %v %v", kv, found, err)
		}
	}
	check("b", 3, 4, 2)
	r.commit()
	r.restart()
	check("b", 3, 4, 2)
	r.one(coord.KindDelete, 1, 4, "k", "")
	if _, found, _ := r.m.Get([]byte("k")); found {
		t.Fatal("a deleted key is found")
	}
	r.one(coord.KindPut, 1, 5, "k", "c")
	check("c", 6, 6, 1)
	if r.m.Revision() != 6 || r.m.Keys() != 2 {
		t.Fatalf("revision %d, %d keys", r.m.Revision(), r.m.Keys())
	}
}

func TestAnOutcomeIsRememberedForTheLast64Changes(t *testing.T) {
	r := newRig(t)
	r.open(1)
	const n = sessionAcksMax + 10
	for i := uint64(1); i <= n; i++ {
		r.one(coord.KindPut, 1, i, "k", "v")
		r.one(coord.KindGet, 1, n+i, "k", "") // reads take no place
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			r.commit()
			r.restart()
		}
		for i := uint64(1); i <= n; i++ {
			want := 1 + i
			if i <= n-sessionAcksMax {
				want = 0
			}
			if got := r.one(coord.KindPut, 1, i, "k", "v"); !got.Duplicate || got.Revision != want {
				t.Fatalf("restarted %v: message %d: %+v", restarted, i, got)
			}
		}
	}
}

func TestTooManyHolesInASessionMustWait(t *testing.T) {
	r := newRig(t)
	r.open(1)
	c := new(coord.Columns)
	for i := range uint64(sessionSpansMax + 1) {
		c.Add(coord.KindObserve, 1, 2*i+2, 0, key64(1), nil)
	}
	res := r.block(c)
	for i := range sessionSpansMax {
		if res[i].Code != coord.CodeOK {
			t.Fatalf("hole %d: %v", i, res[i].Code)
		}
	}
	if got := res[sessionSpansMax].Code; got != coord.CodeWindow {
		t.Fatalf("got %v", got)
	}
	// Filling a hole makes room.
	r.one(coord.KindObserve, 1, 1, object(1), "")
	if got := r.one(coord.KindObserve, 1, 2*sessionSpansMax+2, object(1), ""); got.Code != coord.CodeOK || got.Duplicate {
		t.Fatalf("got %+v", got)
	}
}

func TestTheReadsOfABatchCannotExhaustMemory(t *testing.T) {
	r := newRig(t)
	r.open(1)
	r.one(coord.KindPut, 1, 1, "k", string(make([]byte, coord.ValueBytesMax)))
	c := new(coord.Columns)
	for i := range uint64(coord.BatchMessagesMax) {
		c.Add(coord.KindGet, 1, 2+i, 0, []byte("k"), nil)
	}
	total, busy := 0, 0
	for i, res := range r.block(c) {
		total += len(res.Value)
		if busy == 0 && res.Code == coord.CodeBusy {
			busy = i
		}
		if (busy == 0) != (res.Code == coord.CodeOK) {
			t.Fatalf("read %d: %v", i, res.Code)
		}
	}
	if busy == 0 || total > readBytesMax+coord.ValueBytesMax {
		t.Fatalf("%d bytes, busy from %d", total, busy)
	}
	if res := r.one(coord.KindGet, 1, uint64(2+busy), "k", ""); res.Code != coord.CodeOK || !res.Found || len(res.Value) != coord.ValueBytesMax {
		t.Fatalf("the repeated read: %v %d", res.Code, len(res.Value))
	}
}

// The 4097th session drops the one that was used longest ago, by height and then by id.
func TestTheLeastRecentlyUsedSessionGoesFirst(t *testing.T) {
	r := newRig(t)
	opens := new(coord.Columns)
	for i := uint64(1); i <= SessionsMax; i++ {
		opens.Add(coord.KindOpen, SessionsMax+1-i, 0, 0, []byte("c"), nil) // all at one height, highest id first
	}
	r.block(opens)
	r.one(coord.KindObserve, 1, 1, object(1), "") // 1 is in use, 2 is now the lowest of the idle
	r.commit()
	r.open(10_000)
	r.commit()
	r.restart()
	r.open(10_001) // 3 goes, after a restart
	for id, want := range map[uint64]coord.Code{
		1: coord.CodeOK, 2: coord.CodeNoSession, 3: coord.CodeNoSession, 4: coord.CodeOK, 10_000: coord.CodeOK,
	} {
		if got := r.one(coord.KindObserve, id, 2, object(1), ""); got.Code != want {
			t.Errorf("session %d: %v, want %v", id, got.Code, want)
		}
	}
	r.commit()
	v := r.m.Sessions()
	stored := 0
	if err := r.back.Scan(coord.SpaceSessions, nil, func(_, _ []byte) bool { stored++; return true }); err != nil {
		t.Fatal(err)
	}
	if len(v) != SessionsMax || stored != SessionsMax || v[0].ID != 1 || v[0].Name != "c" || v[0].Opened != 1 {
		t.Fatalf("%d sessions, %d stored, first %+v", len(v), stored, v[0])
	}
}

func TestASessionDroppedAndOpenedAgainStartsAnew(t *testing.T) {
	r := newRig(t)
	r.open(1)
	r.one(coord.KindPut, 1, 1, "k", "v")
	c := new(coord.Columns)
	for i := range uint64(SessionsMax) {
		c.Add(coord.KindOpen, 100+i, 0, 0, nil, nil)
	}
	c.Add(coord.KindOpen, 1, 0, 0, nil, nil) // dropped by the others, and here again before a commit
	r.block(c)
	r.commit()
	r.restart()
	if got := r.one(coord.KindPut, 1, 1, "k", "v"); got.Code != coord.CodeOK || got.Duplicate {
		t.Fatalf("got %+v", got)
	}
}

func TestABatchTakesEffectOnceInAnyOrder(t *testing.T) {
	const start = 1 << startBits
	type in struct {
		author     coord.BoxID
		seq, floor uint64
		want       bool
	}
	for name, steps := range map[string][]in{
		"twice":                  {{boxA, 1, 0, true}, {boxA, 1, 0, false}},
		"by two authors":         {{boxA, 1, 0, true}, {boxB, 1, 0, true}},
		"later first":            {{boxA, 3, 0, true}, {boxA, 2, 0, true}, {boxA, 3, 0, false}, {boxA, 1, 0, true}, {boxA, 2, 0, false}},
		"given up by the author": {{boxA, 5, 3, true}, {boxA, 3, 0, false}, {boxA, 4, 0, true}},
		"a floor above itself":   {{boxA, 5, 9, true}, {boxA, 5, 9, false}, {boxA, 6, 0, true}},
		"after a restart":        {{boxA, start + 1, 0, true}, {boxA, start + 3, 0, true}, {boxA, 2*start + 1, 0, true}, {boxA, start + 2, 0, false}, {boxA, 2 * start, 0, true}},
		"number 0":               {{boxA, 0, 0, false}},
		"the last number":        {{boxA, 1<<64 - 1, 0, true}, {boxA, 1<<64 - 1, 0, false}, {boxA, 1<<64 - 2, 0, true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.open(1)
			var seq uint64
			for i, s := range steps {
				seq++
				author := s.author
				author[7] = 1 // not the author that opened the session
				before := r.m.BatchDone(author, s.seq)
				r.begin()
				_, got := r.m.Batch(author, s.seq, s.floor, cols(coord.KindPut, 1, seq, "k", "v"), nil)
				r.m.End()
				if got != s.want || before == s.want || !r.m.BatchDone(author, s.seq) {
					t.Fatalf("step %d: took effect %v, want %v", i, got, s.want)
				}
				if i%2 == 1 {
					r.commit()
					r.restart()
				}
			}
		})
	}
}

func TestABoxWithTooManyBatchesUnderWayIsToldToWait(t *testing.T) {
	r := newRig(t)
	r.open(1)
	r.begin()
	for i := range uint64(BoxBatchesAboveFloorMax) {
		if _, ok := r.m.Batch(boxB, 2*i+2, 0, nil, nil); ok {
			t.Fatal("a broken batch took effect")
		}
	}
	over := uint64(2*BoxBatchesAboveFloorMax + 2)
	c := cols(coord.KindPut, 1, 1, "k", "v")
	res, ok := r.m.Batch(boxB, over, 0, c, nil)
	if ok || len(res) != 1 || res[0].Code != coord.CodeBusy || r.m.BatchDone(boxB, over) {
		t.Fatalf("%v %v", res, ok)
	}
	// It may come again, and does take effect once there is room.
	if res, ok = r.m.Batch(boxB, over, 2, c, nil); !ok || res[0].Code != coord.CodeOK || res[0].Duplicate {
		t.Fatalf("%v %v", res, ok)
	}
	r.m.End()
}

func TestABrokenBatchCountsAsDone(t *testing.T) {
	r := newRig(t)
	r.begin()
	if res, ok := r.m.Batch(boxB, 1, 0, nil, r.res); ok || len(res) != 0 || !r.m.BatchDone(boxB, 1) {
		t.Fatalf("%v %v", res, ok)
	}
	r.m.End()
	r.commit()
	r.restart()
	if !r.m.BatchDone(boxB, 1) {
		t.Fatal("forgotten after a restart")
	}
}

func TestADiskThatCannotBeReadStopsTheMachine(t *testing.T) {
	for _, k := range []coord.Kind{coord.KindPut, coord.KindDelete, coord.KindGet, coord.KindObserve} {
		b := &failing{MemBackend: NewMemBackend()}
		m, err := New(b)
		if err != nil {
			t.Fatal(err)
		}
		m.Begin(&coord.Block{Height: 1})
		m.Batch(boxA, 1, 0, cols(coord.KindOpen, 1, 0, "c", ""), nil)
		m.End()
		b.broken = true
		if _, _, err := m.Get([]byte("k")); !errors.Is(err, ErrBackend) || m.Err() != nil {
			t.Fatalf("a read by a person: %v, %v", err, m.Err())
		}
		m.Begin(&coord.Block{Height: 2})
		res, ok := m.Batch(boxA, 2, 0, cols(k, 1, 1, object(3), ""), nil)
		if ok || len(res) != 0 || !errors.Is(m.Err(), ErrBackend) || !errors.Is(m.Err(), errDisk) {
			t.Fatalf("kind %d: %v %v %v", k, res, ok, m.Err())
		}
		b.broken = false // too late
		m.End()
		m.Begin(&coord.Block{Height: 3})
		if _, ok = m.Batch(boxA, 3, 0, cols(coord.KindOpen, 2, 0, "c", ""), nil); ok || m.End() || m.Take() != nil {
			t.Fatal("it went on")
		}
		if !errors.Is(m.Err(), errDisk) {
			t.Fatalf("the first error is gone: %v", m.Err())
		}
	}
}

func TestABlockOutOfOrderStopsTheMachine(t *testing.T) {
	for name, do := range map[string]func(m *Machine){
		"a gap":             func(m *Machine) { m.Begin(&coord.Block{Height: 2}) },
		"begin twice":       func(m *Machine) { m.Begin(&coord.Block{Height: 1}); m.Begin(&coord.Block{Height: 2}) },
		"end without begin": func(m *Machine) { m.End() },
		"batch outside":     func(m *Machine) { m.Batch(boxA, 1, 0, nil, nil) },
		"take inside":       func(m *Machine) { m.Begin(&coord.Block{Height: 1}); m.Take() },
	} {
		m, err := New(NewMemBackend())
		if err != nil {
			t.Fatal(err)
		}
		if do(m); !errors.Is(m.Err(), ErrOrder) {
			t.Errorf("%s: %v", name, m.Err())
		}
	}
}

func TestDamagedStorageIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		ch   coord.Change
		want error
	}{
		"meta":           {coord.Change{Space: coord.SpaceMeta, Key: []byte(metaKey), Value: []byte{1, 2}}, ErrDamaged},
		"a later meta":   {coord.Change{Space: coord.SpaceMeta, Key: []byte(metaKey), Value: []byte{2, 2}}, ErrVersion},
		"a session":      {coord.Change{Space: coord.SpaceSessions, Key: key64(1), Value: []byte{1}}, ErrDamaged},
		"a session's id": {coord.Change{Space: coord.SpaceSessions, Key: []byte{1}, Value: appendSession(nil, &session{})}, ErrDamaged},
		"a box":          {coord.Change{Space: coord.SpaceBoxes, Key: key64(1), Value: []byte{1, 0, 9}}, ErrDamaged},
		"a counter":      {coord.Change{Space: coord.SpaceCounters, Key: key64(1), Value: []byte{1, 0}}, ErrDamaged},
	} {
		b := NewMemBackend()
		if err := b.Commit(&coord.Commit{Changes: []coord.Change{c.ch}}); err != nil {
			t.Fatal(err)
		}
		if _, err := New(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A damaged key is met when it is used.
	r := newRig(t)
	r.open(1)
	if err := r.back.Commit(&coord.Commit{Changes: []coord.Change{{Space: coord.SpaceKeys, Key: []byte("k"), Value: []byte{1, 9}}}}); err != nil {
		t.Fatal(err)
	}
	r.begin()
	r.m.Batch(boxB, 1, 0, cols(coord.KindPut, 1, 1, "k", "v"), nil)
	if err := r.m.Err(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "6b") {
		t.Fatalf("got %v", err)
	}
}
