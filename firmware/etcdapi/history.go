package etcdapi

import (
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
)

// historyEvery is how often a box looks whether there is history to forget.
const historyEvery = 10 * time.Second

// past is what revision the site was at, at a time of this box's clock.
type past struct {
	at  time.Time
	rev uint64
}

// keepHistory asks for a compaction when there are more revisions than are to be kept, and the rest is old enough, or takes too
// much space. The leader
// asks; another box only when twice as much has gathered, so that a leader that never asks does not fill the disks.
func (s *Server) keepHistory() {
	t := time.NewTicker(historyEvery)
	defer t.Stop()
	var seen []past // ascending; at most one each historyEvery of KeepTime
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			st := s.cfg.Site.State()
			rev := st.Revision()
			seen = append(seen, past{now, rev})
			old := uint64(0) // the newest revision that is older than KeepTime
			for len(seen) > 1 && now.Sub(seen[0].at) >= s.cfg.KeepTime {
				if old = seen[0].rev; now.Sub(seen[1].at) < s.cfg.KeepTime {
					break
				}
				seen = seen[1:]
			}
			keep := s.cfg.KeepRevisions
			if b := st.HistoryBytes(); s.cfg.KeepBytes > 0 && b > s.cfg.KeepBytes { // however young it is
				// Half of what there may be, if revisions are alike.
				old, keep = rev, min(keep, uint64(float64(rev-st.Compacted())*float64(s.cfg.KeepBytes)/float64(b)/2))
			}
			slack := max(keep/10, 1) // not a compaction for every revision
			if v := s.view.Load(); v.Leader != s.cfg.Self {
				slack += keep
			}
			if to := min(rev-min(rev, keep), old); to > st.Compacted() && to-st.Compacted() >= slack {
				_, err := s.order(s.ctx, coord.KindCompact, nil, kv.AppendNumber(nil, to))
				s.cfg.Logger.Info("history compacted", "revision", to, "err", err)
			}
		}
	}
}
