package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// first finds what an alteration needs; a history without it cannot show anything.
func first[T any](t *testing.T, all []T, fits func(T) bool) T {
	t.Helper()
	i := slices.IndexFunc(all, fits)
	if i < 0 {
		t.Fatal("the history has nothing of that kind")
	}
	return all[i]
}

func okRead(o *Op) bool {
	return o.Outcome == OK && o.Req.Kind == Range && o.Req.Rev == 0 && o.linearizable()
}

// batch is a message with several revisions' events of a watcher that reads on.
func batch(m *Msg) bool {
	return m.Kind == Events && !m.Fragment && len(m.Events) > 2 && m.Events[0].KV.Mod != m.Events[1].KV.Mod &&
		strings.HasPrefix(m.Watcher, "steady")
}

// alterations are lies that a server might tell, each in a history that is right without it. porcupine says that the
// second judge must find it too; what is told to watchers and what depends on time alone is not in its reach.
var alterations = []struct {
	name      string
	rule      Rule
	porcupine bool
	alter     func(*testing.T, *History, *judge)
}{
	{"two values are swapped in a read", Read, true, func(t *testing.T, h *History, _ *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return okRead(o) && len(o.Resp.KVs) > 1 && !o.Req.KeysOnly })
		o.Resp.KVs[0].Value, o.Resp.KVs[1].Value = o.Resp.KVs[1].Value, o.Resp.KVs[0].Value
	}},
	{"two writes have each other's values", Replay, false, func(t *testing.T, h *History, _ *judge) {
		put := func(o *Op) bool {
			return o.Outcome == OK && o.Req.Kind == Put && !o.Req.IgnoreValue && o.Req.Value != ""
		}
		a := first(t, h.Ops, put)
		b := first(t, h.Ops, func(o *Op) bool { return put(o) && o != a })
		a.Req.Value, b.Req.Value = b.Req.Value, a.Req.Value
	}},
	{"a read is stale and says so", RealTime, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return okRead(o) && j.floor(o.Call) > h.Meta.Base+30 })
		s, _ := j.at(j.floor(o.Call) - 5)
		o.Resp, _, _ = s.Apply(o.Req)
	}},
	{"a read is stale and hides it", Read, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool {
			s, ok := j.at(o.Resp.Rev - 1)
			return ok && okRead(o) && !equalResp(withRev(s.read(o.Req), o.Resp.Rev), o.Resp)
		})
		s, _ := j.at(o.Resp.Rev - 1)
		o.Resp = withRev(s.read(o.Req), o.Resp.Rev)
	}},
	{"a serializable read goes back", Serial, false, func(t *testing.T, h *History, j *judge) {
		n := map[int]int{}
		o := first(t, h.Ops, func(o *Op) bool {
			n[o.Conn]++
			return o.Outcome == OK && o.Req.Kind == Range && o.Req.Serializable && o.Conn != 0 && n[o.Conn] > 20
		})
		s, _ := j.at(h.Meta.Base)
		o.Resp = withRev(s.read(o.Req), s.Rev)
	}},
	{"a revision is given twice", Unique, true, func(t *testing.T, h *History, j *judge) {
		put := func(o *Op) bool { return o.Outcome == OK && o.Req.Kind == Put }
		a := first(t, h.Ops, put)
		first(t, h.Ops, func(o *Op) bool { return put(o) && o != a }).Resp.Rev = a.Resp.Rev
	}},
	{"a revision is seen before it is asked for", TooEarly, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return j.acked[o.Resp.Rev] == o })
		o.Call, o.Return = o.Return+int64(time.Second), o.Return+int64(2*time.Second)
	}},
	{"a transaction takes the wrong branch", Replay, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return o.Req.Kind == Txn && j.acked[o.Resp.Rev] == o && o.Req.wrote(lied(o.Resp)) })
		o.Resp = lied(o.Resp)
	}},
	{"a write is acknowledged that nobody made", Unexplained, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return o.Req.Kind == Put && o.Outcome == OK })
		h.Ops = slices.DeleteFunc(h.Ops, func(x *Op) bool { return x == o })
	}},
	{"an open write happens twice", Unexplained, true, func(t *testing.T, h *History, j *judge) {
		// Two acknowledged puts become one of unknown outcome.
		put := func(o *Op) bool {
			return o.Outcome == OK && o.Req.Kind == Put && !o.Req.IgnoreValue && !o.Req.IgnoreLease && o.Req.Lease == 0
		}
		a := first(t, h.Ops, put)
		b := first(t, h.Ops, func(o *Op) bool { return put(o) && o != a })
		a.Outcome = Unknown
		h.Ops = slices.DeleteFunc(h.Ops, func(x *Op) bool { return x == b })
	}},
	{"an open write happens before its call", Unexplained, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return o.Outcome == OK && o.Req.Kind == Put && o.Req.Value != "" })
		o.Outcome, o.Call = Unknown, j.seen[o.Resp.Rev]+int64(time.Second)
	}},
	{"a compacted revision is answered", Compaction, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool {
			_, sure := j.compacted(o.Req.Rev, o.Call)
			return o.Outcome == Refused && o.Req.Kind == Range && o.linearizable() && sure
		})
		s, _ := j.at(max(o.Req.Rev, h.Meta.Base))
		o.Outcome, o.Err, o.Resp = OK, "", withRev(s.read(o.Req), j.floor(o.Return))
	}},
	{"a compaction is refused without cause", Refusal, true, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool { return o.Outcome == Refused && strings.Contains(o.Err, "future revision") })
		o.Req.Rev = h.Meta.Base
	}},
	{"a lease ends early", LeaseEarly, false, func(t *testing.T, h *History, j *judge) {
		for rev := j.base; rev <= j.max; rev++ {
			if id := j.made[rev].expired; id != 0 {
				j.leases[id].extended.Resp.TTL += 100
				return
			}
		}
		t.Fatal("no lease ended by itself")
	}},
	{"a lease is said not to exist while it does", LeaseEarly, false, func(t *testing.T, h *History, j *judge) {
		o := first(t, h.Ops, func(o *Op) bool {
			l := j.leases[o.Req.Lease]
			return o.Outcome == OK && o.Req.Kind == KeepAlive && o.Resp.TTL > 0 && len(l.revokes) == 0 && l.granted < o.Call &&
				l.extended != o
		})
		o.Resp.TTL = 0
	}},
	{"a lease is used after its revoke", LeaseZombie, false, func(t *testing.T, h *History, j *judge) {
		r := first(t, h.Ops, func(o *Op) bool { return o.Outcome == OK && o.Req.Kind == Revoke })
		o := first(t, h.Ops, func(o *Op) bool {
			return o.Outcome == OK && o.Req.Kind == KeepAlive && o.Call > r.Return && o.Resp.TTL > 0
		})
		o.Req.Lease = r.Req.Lease
	}},
	{"a revoke leaves a key", Replay, true, func(t *testing.T, h *History, j *judge) {
		for rev := j.base + 1; rev <= j.max; rev++ {
			s, _ := j.at(rev - 1)
			if m := j.made[rev]; m.op != nil && m.op.Req.Kind == Revoke && len(s.attached(m.op.Req.Lease)) > 0 {
				m.op.Resp.Rev--
				return
			}
		}
		t.Fatal("no revoke had keys")
	}},
	{"an event is missing", WatchOrder, false, func(t *testing.T, h *History, _ *judge) {
		m := first(t, h.Msgs, batch)
		m.Events = slices.Delete(m.Events, 1, 2)
	}},
	{"a message is missing", WatchOrder, false, func(t *testing.T, h *History, _ *judge) {
		var last *Msg
		for _, m := range h.Msgs {
			if m.Watcher != "steady-0" {
				continue
			}
			if m.Kind == Events && last != nil && last.Kind == Events && last.Session == m.Session {
				h.Msgs = slices.DeleteFunc(h.Msgs, func(x *Msg) bool { return x == last })
				return
			}
			last = m
		}
		t.Fatal("no two messages in a row")
	}},
	{"an event comes twice", WatchOrder, false, func(t *testing.T, h *History, _ *judge) {
		m := first(t, h.Msgs, batch)
		m.Events = slices.Insert(m.Events, 1, m.Events[0])
	}},
	{"two events change places", WatchOrder, false, func(t *testing.T, h *History, _ *judge) {
		m := first(t, h.Msgs, batch)
		m.Events[0], m.Events[1] = m.Events[1], m.Events[0]
	}},
	{"an event has an older previous value", WatchOrder, false, func(t *testing.T, h *History, _ *judge) {
		m := first(t, h.Msgs, func(m *Msg) bool {
			return len(m.Events) == 1 && m.Events[0].Prev != nil && strings.HasPrefix(m.Watcher, "steady")
		})
		m.Events[0].Prev.Version--
	}},
	{"a revision comes in two answers", WatchSplit, false, func(t *testing.T, h *History, _ *judge) {
		i := slices.IndexFunc(h.Msgs, func(m *Msg) bool {
			return !m.Fragment && len(m.Events) > 1 && m.Events[0].KV.Mod == m.Events[1].KV.Mod && strings.HasPrefix(m.Watcher, "steady")
		})
		if i < 0 {
			t.Fatal("no revision with two events at the front")
		}
		rest := *h.Msgs[i]
		rest.Events, h.Msgs[i].Events = rest.Events[1:], rest.Events[:1]
		h.Msgs = slices.Insert(h.Msgs, i+1, &rest)
	}},
	{"a progress notification overtakes an event", WatchAhead, false, func(t *testing.T, h *History, j *judge) {
		first(t, h.Msgs, func(m *Msg) bool { return m.Kind == Progress && m.Rev < j.max-100 }).Rev += 50
	}},
	{"a compacted watch is opened", WatchCompact, false, func(t *testing.T, h *History, _ *judge) {
		i := slices.IndexFunc(h.Msgs, func(m *Msg) bool { return m.Kind == Compacted && strings.HasPrefix(m.Watcher, "probe-") })
		if i < 0 {
			t.Fatal("no probe was refused")
		}
		h.Msgs = slices.Delete(h.Msgs, i, i+1)
	}},
	{"a watcher is told of a compaction that never was", WatchCompact, false, func(t *testing.T, h *History, _ *judge) {
		first(t, h.Msgs, func(m *Msg) bool { return m.Kind == Compacted }).Compact++
	}},
	{"a watcher never comes to the end", WatchLate, false, func(_ *testing.T, h *History, _ *judge) {
		h.Late = append(h.Late, "steady-0 wants revision 7 next")
	}},
}

// excuses are things that a client may fail to learn: the history stays one of etcd.
var excuses = []struct {
	name  string
	alter func(*testing.T, *History, *judge)
}{
	{"nobody watched", func(_ *testing.T, h *History, _ *judge) { h.Msgs = nil }},
	{"every tenth write has an unknown outcome", func(_ *testing.T, h *History, _ *judge) { forget(h, 10) }},
	{"nobody watched and every fiftieth write has an unknown outcome", func(_ *testing.T, h *History, _ *judge) {
		h.Msgs = nil
		forget(h, 50)
	}},
}

func forget(h *History, each int) {
	for i, o := range h.Ops {
		if i%each == 0 && o.Outcome == OK && slices.Contains([]Kind{Put, Delete, Txn, Revoke, Compact}, o.Req.Kind) {
			o.Outcome, o.Resp = Unknown, Resp{}
		}
	}
}

// lied says the other branch.
func lied(r Resp) Resp {
	r.Then = !r.Then
	return r
}

// TestTheJudgesFindEveryLie alters the history of a real etcd that was killed and partitioned, but never stopped: then
// etcd keeps every promise.
func TestTheJudgesFindEveryLie(t *testing.T) {
	seed, d := uint64(2), 15*time.Second
	h := record(t, seed, d, func(ctx context.Context, c *cluster, arg string) error {
		if i, ok := strings.CutPrefix(arg, "stop "); ok {
			arg = "partition " + i
		} else if strings.HasPrefix(arg, "cont ") {
			arg = "heal"
		}
		return c.hook(ctx, arg)
	})
	file := filepath.Join(t.TempDir(), "h.jsonl")
	if err := h.Save(file); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := command(t.Context(), []string{"-check", file}, &out); err != nil {
		if keep := os.Getenv("ETCDHIST_OUT"); keep != "" {
			h.Save(keep)
		}
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Logf("unaltered:\n%s", out.String())
	for _, e := range excuses {
		t.Run(e.name, func(t *testing.T) {
			h, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			e.alter(t, h, Judge(h))
			if v := Verdict(h); !v.ok() || v.j.unjudged > 0 {
				var b strings.Builder
				v.print(&b)
				t.Error(b.String())
			}
		})
	}
	for _, a := range alterations {
		t.Run(a.name, func(t *testing.T) {
			h, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			a.alter(t, h, Judge(h))
			v := Verdict(h)
			if !v.has(a.rule) {
				var b strings.Builder
				v.print(&b)
				t.Errorf("not found: %s\n%s", a.rule, b.String())
			}
			if a.porcupine && !v.has(Search) {
				t.Error("porcupine did not find it")
			}
			altered := filepath.Join(t.TempDir(), "h.jsonl")
			if err := h.Save(altered); err != nil {
				t.Fatal(err)
			}
			if err := command(t.Context(), []string{"-check", altered}, &bytes.Buffer{}); !errors.Is(err, errViolated) {
				t.Errorf("the command says %v", err)
			}
		})
	}
}

func TestTheHookIsRunWithItsArgumentAndItsFailureCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "args")
	hook := shellHook("echo >>" + file)
	for _, arg := range []string{"kill 2", "heal"} {
		if err := hook(t.Context(), arg); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "kill 2\nheal\n" {
		t.Errorf("got %q", b)
	}
	if shellHook("false")(t.Context(), "heal") == nil {
		t.Error("a hook that fails is taken for one that worked")
	}
}
