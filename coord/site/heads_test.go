package site_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/site"
)

// heads keeps what a box was given of all audit logs.
type heads struct {
	mu  sync.Mutex
	all []audit.SignedHead
}

func (h *heads) keep(s *audit.SignedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, *s)
}

func (h *heads) of(box coord.BoxID) (out []audit.SignedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.all {
		if h.all[i].Box == box {
			out = append(out, h.all[i])
		}
	}
	return out
}

func TestTheHeadOfAnAuditLogIsSignedByAQuorumOnEveryBox(t *testing.T) {
	inSite(t, 4, site.Tuning{}, func(r *rig) {
		var tiles [][]byte
		tree := &audit.Tree{Tile: func(level int, n int64) []byte {
			if level == 0 && n == 0 && len(tiles) > 0 {
				return tiles[0]
			}
			return nil
		}}
		add := func(text string) {
			err := tree.Add([]coord.Digest{audit.LeafHash([]byte(text))}, func(_ int, _ int64, b []byte) error {
				tiles = [][]byte{append([]byte(nil), b...)}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		me := r.members.List[1].ID
		order := func() (*audit.Head, error) {
			h, err := tree.NextHead(me, r.boxes[1].site.AuditTop())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
			defer cancel()
			return h, r.boxes[1].site.OrderAudit(ctx, h)
		}
		signed := func(n int, size int64, boxes ...int) {
			t.Helper()
			for _, i := range boxes {
				r.eventually("a box has the signed head", func() bool { return len(r.boxes[i].heads.of(me)) == n })
				s := r.boxes[i].heads.of(me)[n-1]
				if err := s.Check(r.members, (tagKeys{0, r.members}).VerifyReading); err != nil || s.Size != size {
					t.Errorf("box %d: %+v: %v", i, s, err)
				}
			}
		}
		add("a")
		if _, err := order(); err != nil {
			t.Fatal(err)
		}
		signed(1, 1, 0, 1, 2, 3)

		if err := r.stop(3); err != nil { // one may be away
			t.Fatal(err)
		}
		add("b")
		first, err := order()
		if err != nil {
			t.Fatal(err)
		}
		signed(2, 2, 0, 1, 2)

		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		if err := r.boxes[1].site.OrderAudit(ctx, first); !errors.Is(err, audit.ErrHead) {
			t.Errorf("the same head twice: %v", err)
		}
		if err := r.boxes[2].site.OrderAudit(ctx, first); !errors.Is(err, audit.ErrHead) {
			t.Errorf("another box's head: %v", err)
		}
	})
}
