package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/store"
)

// ErrReplace says that a box cannot be replaced as asked.
var ErrReplace = errors.New("cannot replace the box")

// Replacement is what Replace did.
type Replacement struct {
	Box int         `json:"box"`
	Dir string      `json:"dir"`
	Old coord.BoxID `json:"old"`
	New coord.BoxID `json:"new"`
	// VotesFrom is the first round in which the new box votes.
	VotesFrom uint64 `json:"votes_from"`
}

// Replace puts a box with a new identity in the place of one whose directory is lost, in a site that does not
// run. The new box starts empty and catches up. It does not know what the lost one signed, so it votes only
// from the first round of a term that nobody can have voted in: the one after the term of the round that follows the
// highest in any other box's log. (Whoever was in round r+1 had a quorum's votes of round r, and at least one
// of those is by a box whose log is read here.)
//
// Errors: ErrLocked, ErrSite, ErrReplace, those of store and coord/trust.
func Replace(dir string, box int, logger *slog.Logger) (*Replacement, error) {
	release, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("dev: %w: there is no site in %s", ErrReplace, dir)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	m, found, err := findSite(dir)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("dev: %w: there is no site in %s", ErrReplace, dir)
	case m.Epoch > founded:
		return nil, fmt.Errorf("dev: %w: the site has changed its boxes by itself since it was made, so it does it this time, too: start it and use `holdfast site replace`, or `holdfast site join-token --replace`",
			ErrReplace)
	case box < 0 || box >= m.N():
		return nil, fmt.Errorf("dev: %w: there is no box %d; the site has boxes 0 to %d", ErrReplace, box, m.N()-1)
	case coord.MaxFaulty(m.N()) == 0:
		return nil, fmt.Errorf("dev: %w: a site of %d boxes needs the votes of every one (4 boxes can lose one)", ErrReplace, m.N())
	}
	target := boxDir(dir, box)
	if _, err := os.Stat(filepath.Join(target, trust.KeyFile)); err == nil {
		return nil, fmt.Errorf("dev: %w: %s still has its %s, so it can simply be started; to give it up for good, move the directory away first",
			ErrReplace, target, trust.KeyFile)
	}
	top, err := highestRound(dir, m, box, logger)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return nil, fmt.Errorf("dev: replace: %w", err)
	}
	id, err := trust.LoadOrCreate(target)
	if err != nil {
		return nil, fmt.Errorf("dev: replace: %w", err)
	}
	l := &m.List[box]
	r := &Replacement{Box: box, Dir: target, Old: l.ID, New: id.ID(), VotesFrom: ((top+1)/site.TermRounds + 1) * site.TermRounds}
	l.ID, l.Key, l.VotesFrom = id.ID(), id.PublicKey(), r.VotesFrom
	for i := range m.List {
		to := boxDir(dir, i)
		if _, err := os.Stat(to); err != nil {
			continue // away as well: it gets the member set when it is replaced
		}
		if err := trust.SaveMembers(to, m); err != nil {
			return nil, fmt.Errorf("dev: replace: %w", err)
		}
	}
	return r, nil
}

// highestRound reads the logs of the other boxes, a quorum of them at least.
func highestRound(dir string, m *coord.Members, but int, logger *slog.Logger) (top uint64, err error) {
	read := 0
	for i := range m.List {
		from := boxDir(dir, i)
		if _, err := os.Stat(filepath.Join(from, trust.KeyFile)); i == but || err != nil {
			continue
		}
		r, err := roundOf(from, m, i, logger)
		if err != nil {
			return 0, fmt.Errorf("dev: replace: read the log of box %d: %w", i, err)
		}
		top = max(top, r)
		read++
	}
	if q := coord.Quorum(m.N()); read < q {
		return 0, fmt.Errorf("dev: %w: %d other boxes have their directory, %d are needed", ErrReplace, read, q)
	}
	return top, nil
}

func roundOf(dir string, m *coord.Members, i int, logger *slog.Logger) (top uint64, err error) {
	st, err := store.Open(dir, store.Options{Site: m.Site, Box: m.List[i].ID, Logger: logger})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if f := st.Base.Committed(); f != nil {
		top = f.Header.Round
	}
	return top, st.Replay(func(r *coord.Record) error {
		switch {
		case r.Vote != nil:
			top = max(top, r.Vote.Round)
		case r.Cert != nil:
			top = max(top, r.Cert.Round)
		case r.Block != nil:
			top = max(top, r.Block.Round)
		}
		return nil
	})
}
