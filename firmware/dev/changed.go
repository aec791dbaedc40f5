package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
)

// directoriesMax is how many box directories are looked at: each member may have been replaced, and its directory left.
const directoriesMax = 4 * coord.MembersMax

// lived is a site whose boxes have changed since it was founded: its member set, the addresses in it too, is what it has decided, and
// nothing that this program may write. The boxes are those of the set, wherever their directories are, and those that wait to be let in.
func lived(o *Options, m *coord.Members) ([]*Box, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	at, waiting := make([]int, m.N()), map[int]coord.BoxID{} // directories
	taken := map[int]bool{}
	for i := range at {
		at[i] = -1
	}
	for n := range directoriesMax {
		ids, err := keysIn(boxDir(dir, n))
		if err != nil {
			return nil, err
		}
		member := -1
		for _, id := range ids {
			member = max(member, m.Index(id))
		}
		_, err = os.Stat(filepath.Join(boxDir(dir, n), trust.SiteFile))
		switch {
		case len(ids) == 0:
			continue
		case member >= 0 && at[member] < 0:
			at[member] = n
		case errors.Is(err, fs.ErrNotExist):
			waiting[n] = ids[0]
		default:
			o.Logger.Info("a box is not in the site any more: its directory is left as it is", "dir", boxDir(dir, n))
		}
		taken[n] = true
	}
	var boxes []*Box
	for i := range m.List {
		l := &m.List[i]
		b := &Box{ID: l.ID, absent: at[i] < 0}
		n := at[i]
		if b.absent {
			n = freeNumber(l.Name, taken)
			taken[n] = true
			o.Logger.Warn("a box's directory is gone: it stays out, the others serve without it", "box", l.Name, "dir", boxDir(dir, n))
		}
		if err := b.settle(o, dir, n, l); err != nil {
			return nil, err
		}
		boxes = append(boxes, b)
	}
	for _, n := range slices.Sorted(maps.Keys(waiting)) {
		b := &Box{ID: waiting[n], extra: true}
		if err := b.settle(o, dir, n, nil); err != nil {
			return nil, err
		}
		boxes = append(boxes, b)
	}
	return boxes, nil
}

// settle gives a box its directory, and the addresses that the site knows it by; what that leaves open follows from the directory's number.
func (b *Box) settle(o *Options, dir string, n int, l *coord.Member) error {
	all, err := plan(o, n+1)
	if err != nil {
		return err
	}
	p := all[n]
	b.Dir, b.name, b.listen = boxDir(dir, n), p.name, p.listen
	if l != nil {
		b.name = l.Name
		for _, a := range []struct {
			known string
			to    *string
		}{{l.Console, &b.listen.console}, {l.Client, &b.listen.client}, {l.Native, &b.listen.native}, {l.Peer, &b.listen.peer}} {
			if a.known != "" {
				*a.to = a.known
			}
		}
	}
	b.Console, b.Client, b.Native, b.Peer = "http://"+b.listen.console, b.listen.client, b.listen.native, b.listen.peer
	return nil
}

// keysIn are the names of the box in dir: by its key, and by the one that it is to have next. None: there is no box.
func keysIn(dir string) (ids []coord.BoxID, err error) {
	there, err := trust.HasKey(dir)
	if err == nil && there {
		var id *trust.Identity
		if id, err = trust.Open(dir, trust.KeyOptions{}); err == nil {
			ids = append(ids, id.ID())
		}
	}
	if err == nil {
		var next *trust.Identity
		if next, err = trust.LoadNext(dir, trust.KeyOptions{}); err == nil && next != nil {
			ids = append(ids, next.ID())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dev: %w: %w", ErrSite, err)
	}
	return ids, nil
}

// freeNumber is that of a box's name if it has one and it is free, else the first that is.
func freeNumber(name string, taken map[int]bool) int {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, boxPrefix)); err == nil && n >= 0 && n < directoriesMax && !taken[n] {
		return n
	}
	n := 0
	for taken[n] {
		n++
	}
	return n
}
