package state

import (
	"slices"
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
)

// docTable is the site's documents: few and small, so they are all in memory.
type docTable struct {
	m     map[string]*coord.Doc
	keys  []string // ascending
	bytes int      // of keys and values
	timed int      // documents with an end
	// version counts the changes of documents: decisions that took effect, and seconds in which documents ended.
	version uint64
}

// put sets a document, or removes it when it is nil.
func (t *docTable) put(key string, d *coord.Doc) {
	i, had := slices.BinarySearch(t.keys, key)
	if old := t.m[key]; old != nil {
		t.bytes -= len(key) + len(old.Value)
		if old.Ends > 0 {
			t.timed--
		}
	}
	if d == nil {
		delete(t.m, key)
		if had {
			t.keys = slices.Delete(t.keys, i, i+1)
		}
		return
	}
	if !had {
		t.keys = slices.Insert(t.keys, i, key)
	}
	t.m[key] = d
	t.bytes += len(key) + len(d.Value)
	if d.Ends > 0 {
		t.timed++
	}
}

// is says whether the documents are as the writes want them.
func (t *docTable) is(writes []coord.DocWrite) bool {
	for i := range writes {
		v := uint64(0)
		if d := t.m[writes[i].Key]; d != nil {
			v = d.Version
		}
		if v != writes[i].Was {
			return false
		}
	}
	return true
}

// room says whether the writes fit, or make what there is no more.
func (t *docTable) room(writes []coord.DocWrite) bool {
	count, size := len(t.keys), t.bytes
	for i := range writes {
		w := &writes[i]
		if old := t.m[w.Key]; old != nil {
			count, size = count-1, size-len(w.Key)-len(old.Value)
		}
		if w.Value != nil {
			count, size = count+1, size+len(w.Key)+len(w.Value)
		}
	}
	return count <= max(DocsMax, len(t.keys)) && size <= max(DocsBytesMax, t.bytes)
}

// ended gives the keys of documents whose time is over, ascending.
func (t *docTable) ended(now uint64) (keys []string) {
	if t.timed == 0 {
		return nil
	}
	for _, k := range t.keys {
		if d := t.m[k]; d.Ends > 0 && d.Ends <= now {
			keys = append(keys, k)
		}
	}
	return keys
}

// Doc is a document as this box has it now. Its value is immutable.
func (m *Machine) Doc(key string) (coord.Doc, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if d := m.site.docs.m[key]; d != nil {
		return *d, true
	}
	return coord.Doc{}, false
}

// Docs lists the documents whose keys begin with prefix, ascending. Their values are immutable.
func (m *Machine) Docs(prefix string) []coord.Doc {
	m.mu.RLock()
	defer m.mu.RUnlock()
	t := &m.site.docs
	var out []coord.Doc
	for i, _ := slices.BinarySearch(t.keys, prefix); i < len(t.keys) && strings.HasPrefix(t.keys[i], prefix); i++ {
		out = append(out, *t.m[t.keys[i]])
	}
	return out
}

// DocsVersion grows whenever a document changes, comes or goes.
func (m *Machine) DocsVersion() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.site.docs.version
}

// Members is the member set of this epoch: that of the last decision that wrote one, before the first the one that SetSite gave. It
// is immutable; nil if nobody gave one.
func (m *Machine) Members() *coord.Members {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.memberSet()
}

// MembersSince is the height of the block in which a decision wrote the member set of this epoch, 0 for the one that SetSite gave.
func (m *Machine) MembersSince() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.site.since
}

// NextMembers is the member set that the last block applied has written, nil if it wrote none: the epoch of the blocks so far ended
// with it. It is immutable, and forgotten with the next Begin.
func (m *Machine) NextMembers() *coord.Members {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.site.next
}

func (m *Machine) memberSet() *coord.Members {
	if m.site.members != nil {
		return m.site.members
	}
	return m.founders
}

// Seconds is the site's clock, which stands while nothing waits for it (Clock).
func (m *Machine) Seconds() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.meta.clock
}

// Stamp sets when d was made, as far as this box knows.
func (m *Machine) Stamp(d *coord.Decision) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d.Made, d.Seen = m.meta.clock, m.site.docs.version
}
