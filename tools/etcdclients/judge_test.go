package main

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTwoPrimariesAreNoticed(t *testing.T) {
	seen := func(node int, timeline int64, start, end int) sighting {
		at := time.Unix(0, 0)
		return sighting{node, timeline, at.Add(time.Duration(start)), at.Add(time.Duration(end))}
	}
	for _, c := range []struct {
		name, wrong string
		seen        []sighting
	}{
		{"one after the other", "", []sighting{seen(0, 1, 0, 1), seen(0, 1, 2, 3), seen(1, 2, 4, 5), seen(0, 3, 6, 7)}},
		{"what overlaps is not ordered", "", []sighting{seen(0, 1, 0, 5), seen(1, 2, 1, 2), seen(1, 2, 6, 7)}},
		{"two on one timeline", "both primary", []sighting{seen(0, 1, 0, 1), seen(1, 1, 2, 3)}},
		{"the old one after the new one", "was of 2", []sighting{seen(0, 1, 0, 1), seen(1, 2, 2, 3), seen(0, 1, 4, 5)}},
		{"the old one between two of the new one", "was of 2", []sighting{seen(1, 2, 6, 7), seen(1, 2, 0, 1), seen(0, 1, 2, 3)}},
		{"behind a long write", "was of 2", []sighting{seen(0, 1, 0, 9), seen(1, 2, 1, 2), seen(0, 1, 3, 4)}},
	} {
		t.Run(c.name, func(t *testing.T) { wants(t, onePrimary("test", c.seen), c.wrong) })
	}
}

func wants(t *testing.T, err error, wrong string) {
	t.Helper()
	switch {
	case wrong == "" && err != nil:
		t.Fatal(err)
	case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
		t.Fatalf("%v, want an error with %q", err, wrong)
	}
}

// message is what a watch delivers at once; without events it is a progress notification.
type message struct {
	header int64
	events []*clientv3.Event
}

func kv(key, value string, created, mod, version int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: created, ModRevision: mod, Version: version}
}

func put(now, before *mvccpb.KeyValue) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.PUT, Kv: now, PrevKv: before}
}

func del(mod int64, before *mvccpb.KeyValue) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: before.Key, ModRevision: mod}, PrevKv: before}
}

func TestWhatAWatchMayNotDoIsNoticed(t *testing.T) {
	a1, a2, a3 := kv("a", "1", 5, 5, 1), kv("a", "2", 5, 6, 2), kv("a", "3", 5, 7, 3)
	b := kv("b", "1", 6, 6, 1)
	again := kv("a", "4", 9, 9, 1)
	one := func(header int64, events ...*clientv3.Event) message { return message{header, events} }
	for _, c := range []struct {
		name, wrong string
		messages    []message
	}{
		{"all in order", "", []message{one(5, put(a1, nil)), one(6, put(a2, a1), put(b, nil)), one(6), one(8, put(a3, a2), del(8, a3)), one(9, put(again, nil))}},
		{"a gap", "last seen was", []message{one(5, put(a1, nil)), one(7, put(a3, a2))}},
		{"a gap over a delete", "last seen was", []message{one(7, put(a1, nil), put(a2, a1)), one(9, put(again, nil))}},
		{"a repetition", "after revision 5", []message{one(5, put(a1, nil)), one(5, put(a1, nil))}},
		{"back in time", "after revision 6", []message{one(6, put(b, nil)), one(6, put(a1, nil))}},
		{"back in time within a message", "after revision 6", []message{one(6, put(b, nil), put(a1, nil))}},
		{"a transaction torn apart", "message of its own", []message{one(5, put(a1, nil)), one(6, put(a2, a1)), one(6, put(b, nil))}},
		{"progress before an event", "after progress", []message{one(5, put(a1, nil)), one(6), one(6, put(a2, a1))}},
		{"progress that goes back", "progress to revision 4", []message{one(5, put(a1, nil)), one(4)}},
		{"an event of the future", "under a header", []message{one(4, put(a1, nil))}},
		{"an event before the start", "to a watch from 5", []message{one(9, put(kv("c", "1", 4, 4, 1), nil))}},
		{"a delete of nothing", "last seen was", []message{one(8, del(8, a3))}},
		{"no previous value", "last seen was", []message{one(5, put(a1, nil)), one(6, put(a2, nil))}},
		{"a version left out", "was put after", []message{one(5, put(a1, nil)), one(7, put(a3, a1))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &eventLog{name: "test", from: 5}
			var err error
			for _, m := range c.messages {
				if err == nil {
					err = l.take(m.events, m.header, len(m.events) == 0)
				}
			}
			wants(t, err, c.wrong)
		})
	}
}

func TestAWatchThatMissesAnAcknowledgedWriteIsNoticed(t *testing.T) {
	a := newAcked()
	a.add(5, "a", "1")
	l, short := &eventLog{}, &eventLog{}
	a1 := kv("a", "1", 5, 5, 1)
	wants(t, l.take([]*clientv3.Event{put(a1, nil), del(6, a1)}, 6, false), "")
	wants(t, short.take([]*clientv3.Event{put(a1, nil)}, 6, false), "")
	wants(t, l.complete(a), "")
	wants(t, l.same(short), "2 events, but 1")
	a.add(6, "a", "")
	wants(t, l.complete(a), "")
	wants(t, short.complete(a), "acknowledged at revision 6")
	a.add(7, "b", "1")
	wants(t, l.complete(a), "acknowledged at revision 7")
}
