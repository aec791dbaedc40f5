package site_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// A box whose storage fails says nothing more, refuses its clients and shows why; the others go on.
func TestABoxWhoseStorageFailsFallsSilent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails func(*box)
	}{
		{"append", func(b *box) { b.log.breakDown(true) }},
		{"sync", func(b *box) { b.log.breakDown(false) }},
		{"state", func(b *box) {
			b.base.mu.Lock()
			defer b.base.mu.Unlock()
			b.base.broken = errDisk
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, 4, site.Tuning{CommitBytes: 1}, func(r *rig) {
				r.session(0, 1)
				r.session(3, 2)
				r.agree(0, 1, 2, 3)
				tt.fails(r.boxes[3])
				caught := r.submit(3, r.put(2, "caught", "x")) // on its way when the storage fails
				r.eventually("the fault shows", func() bool { return r.view(3).Fault != "" })
				v := r.view(3)
				if !strings.Contains(v.Fault, errDisk.Error()) || v.Serving || !strings.Contains(v.Verdict, v.Fault) {
					t.Errorf("fault %q, serving %v, verdict %q", v.Fault, v.Serving, v.Verdict)
				}
				if p := r.answer(caught); p.Code != coord.CodeStopping && p.Code != coord.CodeOK {
					t.Errorf("%+v", p)
				}
				if p := r.answer(r.submit(3, r.put(2, "refused", "x"))); p.Code != coord.CodeStopping {
					t.Errorf("%+v", p)
				}
				words, _ := r.saidBy(3)
				all := uint64(0)
				r.hub.ends[3].h.Message(boxID(0), &coord.PeerMsg{Epoch: 1, FetchFrom: &all}) // not even what its log has
				for k := range 20 {
					r.must(0, r.put(1, "other", fmt.Sprint(k)))
				}
				r.agree(0, 1, 2)
				if now, _ := r.saidBy(3); now != words {
					t.Errorf("it said %d more things", now-words)
				}
				select {
				case err := <-r.boxes[3].done:
					t.Fatalf("Run ended on its own: %v", err)
				default:
				}
				if err := r.stop(3); !errors.Is(err, site.ErrLog) || !strings.Contains(err.Error(), errDisk.Error()) {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

// A box that comes back after its storage failed has no answer of that time to take back.
func TestABoxComesBackAfterItsStorageFailed(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.agree(0, 1, 2, 3)
		r.boxes[1].log.breakDown(false)
		for k := range 10 {
			r.must(0, r.observe(1, uint64(k)))
		}
		r.eventually("the fault shows", func() bool { return r.view(1).Fault != "" })
		if err := r.stop(1); !errors.Is(err, site.ErrLog) {
			t.Errorf("Run: %v", err)
		}
		r.boxes[1].log.cutPower()
		r.boxes[1].log.broken = nil
		r.start(1)
		r.must(1, r.observe(1, 50))
		r.agree(0, 1, 2, 3)
	})
}

// A full disk is waited for: meanwhile the box takes nothing in, answers views, and the others go on; then it
// catches up by itself, and nothing that it took in is lost or doubled.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	full := fmt.Errorf("%w: store: append: %w", site.ErrFull, &fs.PathError{Op: "write", Path: "log/7.seg", Err: syscall.ENOSPC})
	for _, tt := range []struct {
		name string
		set  func(b *box, err error)
	}{
		{"log", func(b *box, err error) {
			b.log.mu.Lock()
			defer b.log.mu.Unlock()
			b.log.broken, b.log.onAppend = err, true
		}},
		{"state", func(b *box, err error) {
			b.base.mu.Lock()
			defer b.base.mu.Unlock()
			b.base.broken = err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, 4, site.Tuning{CommitBytes: 1}, func(r *rig) {
				r.session(0, 1)
				r.session(3, 2)
				r.agree(0, 1, 2, 3)
				tt.set(r.boxes[3], full)
				caught := r.submit(3, r.put(2, "caught", "x")) // on its way when the disk fills up
				r.eventually("it shows", func() bool { return r.view(3).Full != "" })
				v := r.view(3)
				if v.Fault != "" || v.Serving || !strings.HasSuffix(v.Verdict, "when there is space: write log/7.seg: no space left on device.") {
					t.Errorf("fault %q, serving %v, verdict %q", v.Fault, v.Serving, v.Verdict)
				}
				if p := r.answer(r.submit(3, r.put(2, "refused", "x"))); p.Code != coord.CodeFull {
					t.Errorf("%+v", p)
				}
				for k := range 20 {
					r.must(0, r.put(1, "other", fmt.Sprint(k)))
				}
				r.agree(0, 1, 2)
				tt.set(r.boxes[3], nil)
				r.eventually("it goes on", func() bool { return r.view(3).Full == "" })
				if p := r.answer(caught); p.Code != coord.CodeOK {
					t.Errorf("%+v", p)
				}
				r.must(3, r.put(2, "after", "x"))
				r.agree(0, 1, 2, 3)
			})
		})
	}
}

// Stopping does not wait for space.
func TestABoxWithAFullDiskStops(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		r.session(0, 1)
		r.agree(0, 1, 2, 3)
		b := r.boxes[3]
		b.log.mu.Lock()
		b.log.broken, b.log.onAppend = site.ErrFull, true
		b.log.mu.Unlock()
		r.must(0, r.put(1, "k", "v"))
		r.eventually("it shows", func() bool { return r.view(3).Full != "" })
		if err := r.stop(3); err == nil || !errors.Is(err, site.ErrLog) {
			t.Errorf("Run: %v", err)
		}
	})
}
