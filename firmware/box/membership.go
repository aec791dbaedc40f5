package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/link"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/store"
)

// errNewKey says that the site has decided that this box has another key: it starts anew with it.
var errNewKey = errors.New("the box has a new key and starts anew with it")

// baseFile and auditFile are package store's, of whose presence and names something is said here.
const (
	baseFile  = "holdfast.db"
	auditFile = "audit.db"
)

// saveAgain is after how long a member set that could not be written is written again: the disk may be full.
const saveAgain = 5 * time.Second

// membership is the site's boxes as this box knows them now, and what has to follow when they change: site.json, so that a start, the
// command line and whoever verifies offline have the newest, and the box's own key.
type membership struct {
	dir     string
	who     *identity // at the start
	log     *slog.Logger
	now     atomic.Pointer[site.Epoch]
	changed chan struct{} // a token when now was changed

	mu     sync.Mutex
	former []coord.Member // those removed last first
}

func newMembership(dir string, who *identity, log *slog.Logger) *membership {
	m := &membership{dir: dir, who: who, log: log, changed: make(chan struct{}, 1)}
	m.now.Store(&site.Epoch{Members: who.members, Self: who.self})
	return m
}

// remember takes who was a member from how the epochs before ended, ascending.
func (m *membership) remember(past []*coord.Handover) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now.Load().Members
	for _, h := range past {
		if h.Next.Epoch <= now.Epoch {
			m.former = gone(m.former, h.Members, h.Next)
		}
	}
	m.former = gone(m.former, now, now)
}

// formerly is a box as the site had it before it was removed, nil if that is not known.
func (m *membership) formerly(id coord.BoxID) *coord.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.former {
		if m.former[i].ID == id {
			return &m.former[i]
		}
	}
	return nil
}

// list is the site's boxes; the caller owns the copy.
func (m *membership) list() []coord.Member { return slices.Clone(m.now.Load().Members.List) }

// set is whom links serve in an epoch, which it is from now on.
func (m *membership) set(e *site.Epoch) link.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.now.Swap(e)
	m.former = gone(m.former, old.Members, e.Members)
	select {
	case m.changed <- struct{}{}:
	default:
	}
	s := link.Set{Members: e.Members, Self: e.Self, Former: slices.Clone(m.former)}
	if e.Self >= 0 {
		s.Certificate = m.who.keyOf(e.Members.List[e.Self].ID).Certificate()
	}
	return s
}

// gone adds who was a member and is not any more, and takes out who is again.
func gone(before []coord.Member, old, now *coord.Members) (list []coord.Member) {
	if old.Epoch < now.Epoch {
		for _, b := range old.List {
			if now.Index(b.ID) < 0 {
				list = append(list, b)
			}
		}
	}
	for _, b := range before {
		if now.Index(b.ID) < 0 {
			list = append(list, b)
		}
	}
	return list[:min(len(list), link.FormerMax)]
}

// run writes down each member set that the site has begun to work with, until ctx ends. It gives errNewKey when the box has to start anew.
func (m *membership) run(ctx context.Context, note func(epoch, what string)) error {
	saved := m.who.members
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-m.changed:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
		e := m.now.Load()
		if e.Members.Epoch <= saved.Epoch {
			continue
		}
		if err := trust.SaveMembers(m.dir, e.Members); err != nil {
			m.log.Error("the site's new boxes are not written down yet", "epoch", e.Members.Epoch, "err", err)
			again.Reset(saveAgain)
			continue
		}
		what := changes(saved, e.Members)
		m.log.Info("the site's boxes have changed", "epoch", e.Members.Epoch, "boxes", e.Members.N(), "what", what)
		note(fmt.Sprint(e.Members.Epoch), what)
		saved = e.Members
		if e.Self < 0 {
			m.log.Warn("this box is not a member of the site any more: it shows what it has, and orders nothing", "epoch", e.Members.Epoch)
			continue
		}
		if next := m.who.next.Load(); next != nil && e.Me() == next.ID() {
			return errNewKey
		}
	}
}

// changes says in words what a member set has that the one before had not.
func changes(old, now *coord.Members) string {
	var what []string
	for i := range now.List {
		b := &now.List[i]
		switch j := old.Index(b.ID); {
		case j < 0:
			what = append(what, fmt.Sprintf("%s is new (%v)", b.Name, b.ID))
		case old.List[j].Peer != b.Peer:
			what = append(what, fmt.Sprintf("%s is at %s", b.Name, b.Peer))
		}
	}
	for i := range old.List {
		if b := &old.List[i]; now.Index(b.ID) < 0 {
			what = append(what, fmt.Sprintf("%s is gone (%v)", b.Name, b.ID))
		}
	}
	if len(what) == 0 {
		return "nothing that boxes go by"
	}
	return strings.Join(what, ", ")
}

// takeKey makes the next key the box's, when the site lists it and not the old one. What belonged to the old name is set aside or stays
// readable under it. A cut at any point is mended by doing it again.
func takeKey(dir string, m *coord.Members, key, next *trust.Identity) (*trust.Identity, error) {
	if next == nil || m.Index(next.ID()) < 0 || key != nil && m.Index(key.ID()) >= 0 {
		return key, nil
	}
	was := coord.BoxID{}
	if key != nil {
		was = key.ID()
	}
	if err := trust.TakeNext(dir, was); err != nil {
		return nil, err
	}
	return next, nil
}

// setAsideAudit keeps the audit log of the name that the box had before: each name's log is its own, and is judged by its own key.
func setAsideAudit(dir string, was []coord.BoxID) error {
	if len(was) == 0 {
		return fmt.Errorf("%w: it has had one name only", store.ErrIdentity)
	}
	from, to := filepath.Join(dir, auditFile), filepath.Join(dir, "audit."+was[len(was)-1].String()+".db")
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is there already", fs.ErrExist, to)
	}
	return os.Rename(from, to)
}
