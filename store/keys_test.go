package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/store"
	"github.com/holdfast-edge/holdfast/store/crypt"
)

// canary is what values, batches and audit records of a filled directory have in them.
const canary = "the-canary-that-must-not-be-found"

func keysOf(k *crypt.Key) store.Keys {
	if k == nil {
		return nil
	}
	return testKeys{k}
}

func directoryOptions(keys store.Keys) store.Options {
	return store.Options{Site: testSite, Box: testBox, SegmentBytes: 32 << 10, BaseBytesMax: 64 << 20, Keys: keys}
}

// holdings is what a directory says: its records, its entries, its audit log.
type holdings struct {
	records []string
	entries []string
	audit   []string
	root    coord.Digest
	heads   int
}

func (c *holdings) String() string {
	return fmt.Sprintf("%d records, %d entries, %d audit records, %d heads, %x", len(c.records), len(c.entries), len(c.audit), c.heads,
		sha256.Sum256(fmt.Append(nil, c.records, c.entries, c.audit, c.root)))
}

// fillDirectory makes a directory with some of everything.
func fillDirectory(t testing.TB, dir string, keys store.Keys) {
	t.Helper()
	s, err := store.Open(dir, directoryOptions(keys))
	must(t, err)
	c := newChain()
	for i := range 30 {
		rs := c.height(400, true)
		copy(rs[0].Batch.Body[100:], canary)
		must(t, s.Append(rs))
		if i%12 == 11 {
			must(t, s.Roll(c.live()))
		}
	}
	must(t, s.Sync())
	commit := &coord.Commit{Header: c.head}
	for i := range 300 {
		commit.Changes = append(commit.Changes, put(coord.SpaceKeys, fmt.Sprintf("key-%d", i), fmt.Sprintf("%s %d", canary, i)))
	}
	commit.Changes = append(commit.Changes, put(coord.SpaceKeys, "", "of the empty key"), put(coord.SpaceKeys, "empty value", ""))
	must(t, s.Base.Commit(commit))
	a, err := store.OpenAudit(dir, store.AuditOptions{Site: testSite, Box: testBox, Key: s.Key()})
	must(t, err)
	rs := auditRecords(0, 100)
	for i := range rs {
		rs[i].Resource = canary
	}
	_, err = a.Append(rs)
	must(t, err)
	var top audit.Top
	orderHeads(t, a, &top)
	must(t, errors.Join(a.Close(), s.Close()))
}

func readDirectory(t testing.TB, dir string, keys store.Keys) *holdings {
	t.Helper()
	s, err := store.Open(dir, directoryOptions(keys))
	must(t, err)
	defer s.Close()
	c := new(holdings)
	if d := s.Damaged(); d != nil {
		t.Fatal(d)
	}
	c.records, err = replayed(s.Log)
	must(t, err)
	for sp := coord.Space(1); sp <= coord.SpaceMax; sp++ {
		must(t, s.Base.Scan(sp, nil, func(k, v []byte) bool {
			c.entries = append(c.entries, fmt.Sprintf("%d %q %q", sp, k, v))
			got, ok, err := s.Base.Get(sp, k)
			if err != nil || !ok || got == nil || !bytes.Equal(got, v) {
				t.Fatalf("%q is %q when scanned and %q when got: %v", k, v, got, err)
			}
			return true
		}))
	}
	a, err := store.OpenAudit(dir, store.AuditOptions{Site: testSite, Box: testBox, Key: s.Key()})
	must(t, err)
	defer a.Close()
	l, err := a.Log()
	must(t, err)
	for _, r := range l.Records {
		c.audit = append(c.audit, string(r))
	}
	_, size, _ := a.Span()
	c.root, err = a.Root(size)
	must(t, err)
	heads, err := a.Heads(testBox)
	must(t, err)
	c.heads = len(heads)
	if r := verifyAudit(t, a); !r.OK() {
		t.Fatalf("the audit log: %+v", r)
	}
	return c
}

// holds says which files of a directory have a text in them.
func holds(t testing.TB, dir, text string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func TestADirectoryThatIsEncryptedShowsNoValues(t *testing.T) {
	for _, c := range []crypt.Cipher{crypt.AES, crypt.ChaCha} {
		clear, sealed := t.TempDir(), t.TempDir()
		k := testKeys{crypt.NewKey(c)}
		fillDirectory(t, clear, nil)
		fillDirectory(t, sealed, k)
		if len(holds(t, clear, canary)) < 3 {
			t.Fatal("the test looks for what is not even there in clear")
		}
		if found := holds(t, sealed, canary); len(found) > 0 {
			t.Errorf("%s: a value in clear: %v", c, found)
		}
		if found := holds(t, sealed, "operator:ann"); len(found) > 0 {
			t.Errorf("%s: a principal of the audit log in clear: %v", c, found)
		}
		if a, b := readDirectory(t, clear, nil), readDirectory(t, sealed, k); a.String() != b.String() {
			t.Errorf("%s: %v in clear, %v encrypted", c, a, b)
		}
	}
}

// What boxes sign must not tell who of them encrypts.
func TestADirectoryThatIsEncryptedHasTheSameStateDigest(t *testing.T) {
	digests := map[coord.Digest]bool{}
	for _, k := range []*crypt.Key{nil, crypt.NewKey(crypt.AES), crypt.NewKey(crypt.ChaCha)} {
		s, err := store.Open(t.TempDir(), directoryOptions(keysOf(k)))
		must(t, err)
		fill(t, s.Base, 7, 10, 500)
		digests[snapshot(t, s.Base).State()] = true
		must(t, s.Close())
	}
	if len(digests) != 1 {
		t.Fatalf("%d digests of one state", len(digests))
	}
}

// sums are the files of a directory with their contents, without the lock.
func sums(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(data))
		return err
	}))
	return b.String()
}

var errNoKey = errors.New("wrong passphrase")

type noKey struct{ testKeys }

func (noKey) Unlock(*crypt.Ring) (*crypt.Key, error) { return nil, errNoKey }

// A key that is wrong, missing or not wanted is said to be that. Nothing is called damaged, set aside or changed.
func TestADirectoryThatDoesNotOpenIsNotTouched(t *testing.T) {
	own, other := testKeys{crypt.NewKey(crypt.AES)}, testKeys{crypt.NewKey(crypt.AES)}
	plain, sealed, theirs := t.TempDir(), t.TempDir(), t.TempDir()
	fillDirectory(t, plain, nil)
	fillDirectory(t, sealed, own)
	fillDirectory(t, theirs, other)
	const ring = "encryption.json"
	copyRing := func(from string) {
		data, err := os.ReadFile(filepath.Join(from, ring))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(sealed, ring), data, 0o600))
	}
	good, err := os.ReadFile(filepath.Join(sealed, ring))
	must(t, err)
	for _, tc := range []struct {
		name, dir string
		spoil     func()
		keys      store.Keys
		is        error
	}{
		{"wrong passphrase", sealed, func() {}, noKey{}, errNoKey},
		{"no key", sealed, func() {}, nil, store.ErrSealed},
		{"not encrypted", plain, func() {}, own, store.ErrPlain},
		{"ring of another directory", sealed, func() { copyRing(theirs) }, other, store.ErrKey},
		{"ring gone, key configured", sealed, func() { must(t, os.Remove(filepath.Join(sealed, ring))) }, own, store.ErrPlain},
		{"ring gone", sealed, func() {}, nil, store.ErrSealed},
		{"ring damaged", sealed, func() { must(t, os.WriteFile(filepath.Join(sealed, ring), good[:40], 0o600)) }, own, crypt.ErrRing},
		{"ring too long", sealed, func() { must(t, os.WriteFile(filepath.Join(sealed, ring), bytes.Repeat([]byte(" "), 10<<10), 0o600)) }, own, crypt.ErrRing},
	} {
		tc.spoil()
		before := sums(t, tc.dir)
		_, err := store.Open(tc.dir, directoryOptions(tc.keys))
		if !errors.Is(err, tc.is) || errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if sums(t, tc.dir) != before {
			t.Errorf("%s: the directory changed", tc.name)
		}
	}
	must(t, os.WriteFile(filepath.Join(sealed, ring), good, 0o600))
	readDirectory(t, sealed, own)
}

// A thief who brings the box back cannot exchange two values that he cannot read.
func TestADirectoryThatHasTwoValuesExchangedIsDamaged(t *testing.T) {
	dir, k := t.TempDir(), testKeys{crypt.NewKey(crypt.AES)}
	fillDirectory(t, dir, k)
	db, err := bolt.Open(filepath.Join(dir, "holdfast.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte{byte(coord.SpaceKeys)})
		one, two := []byte("\x00key-1"), []byte("\x00key-2")
		v, w := bytes.Clone(b.Get(one)), bytes.Clone(b.Get(two))
		return errors.Join(b.Put(one, w), b.Put(two, v))
	}))
	must(t, db.Close())
	s, err := store.Open(dir, directoryOptions(k))
	must(t, err)
	defer s.Close()
	_, _, err = s.Base.Get(coord.SpaceKeys, []byte("key-1"))
	want(t, err, store.ErrDamaged)
	want(t, s.Base.Scan(coord.SpaceKeys, nil, func(_, _ []byte) bool { return true }), store.ErrDamaged)
	if v, ok, err := s.Base.Get(coord.SpaceKeys, []byte("key-3")); err != nil || !ok || string(v) != canary+" 3" {
		t.Errorf("%q %v %v", v, ok, err)
	}
}

// The frame's own checksum can be made by anybody; what it holds cannot.
func TestADirectoryThatHasARecordMovedIsDamaged(t *testing.T) {
	k := crypt.NewKey(crypt.AES)
	dir := filepath.Join(t.TempDir(), logDir)
	open := func() *store.Log {
		l, err := store.OpenLog(dir, store.WithKey(store.Options{Site: testSite, Box: testBox, SegmentBytes: 8 << 10}, k))
		must(t, err)
		return l
	}
	l, c := open(), newChain()
	for range 4 { // votes are of one length
		must(t, l.Append([]coord.Record{c.vote()}))
		must(t, l.Sync())
	}
	end := l.LogBytes()
	must(t, l.Close())
	size := (end - store.HeaderBytes) / 4
	name := store.SegmentName(dir, 1)
	data, err := os.ReadFile(name)
	must(t, err)
	// The payload of the second at the place of the first, with a checksum that fits there.
	first, second := data[store.HeaderBytes:store.HeaderBytes+size], data[store.HeaderBytes+size:store.HeaderBytes+2*size]
	copy(first[store.FrameBytes:], second[store.FrameBytes:])
	store.Reseal(data, first, store.HeaderBytes)
	must(t, os.WriteFile(name, data, 0o600))
	l = open()
	defer l.Close()
	if d := l.Damaged(); d == nil || !strings.Contains(d.Reason, "decrypt") {
		t.Fatalf("damage: %v", d)
	}
}

func TestConversionsKeepEverything(t *testing.T) {
	dir := t.TempDir()
	fillDirectory(t, dir, nil)
	whole := readDirectory(t, dir, nil)
	var now *crypt.Key
	for _, next := range []*crypt.Key{crypt.NewKey(crypt.AES), crypt.NewKey(crypt.ChaCha), nil, crypt.NewKey(crypt.AES)} {
		must(t, store.Convert(dir, conversionTo(t, now, next)))
		if got := readDirectory(t, dir, keysOf(next)); got.String() != whole.String() {
			t.Fatalf("%v, was %v", got, whole)
		}
		if found := holds(t, dir, canary); (len(found) > 0) != (next == nil) {
			t.Fatalf("in clear: %v", found)
		}
		now = next
	}
	// Changing what wraps the key writes nothing else anew.
	data := func() string {
		all := strings.Split(sums(t, dir), "\n")
		var but []string
		for _, line := range all {
			if !strings.Contains(line, "encryption.json") {
				but = append(but, line)
			}
		}
		return strings.Join(but, "\n")
	}
	before := data()
	pass := []byte("a new passphrase")
	must(t, store.Rewrap(dir, keysOf(now), func(k *crypt.Key) (*crypt.Ring, error) { return k.WithPassphrase(pass) }))
	if data() != before {
		t.Error("data was written anew")
	}
	ring, err := store.ReadRing(dir)
	must(t, err)
	got, err := ring.OpenPassphrase(pass)
	must(t, err)
	if got.Check() != now.Check() {
		t.Error("another key")
	}
	want(t, store.Rewrap(dir, noKey{}, nil), errNoKey)
	want(t, store.Rewrap(t.TempDir(), noKey{}, nil), store.ErrPlain)
}

func conversionTo(t testing.TB, from, to *crypt.Key) store.ConvertOptions {
	t.Helper()
	o := store.ConvertOptions{Site: testSite, Box: testBox, Keys: keysOf(from), Key: to}
	if to != nil {
		var err error
		o.Ring, err = to.WithTPM(testChip{})
		must(t, err)
	}
	return o
}

// stopped is what a conversion panics with where the test stops it, so that nothing is tidied up behind it.
type stopped struct{}

// convertUntil stops a conversion before its step n, and says whether it got there.
func convertUntil(dir string, o store.ConvertOptions, n int) (reached bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(stopped); !ok {
				panic(p)
			}
			reached = true
		}
	}()
	return false, store.Convert(dir, store.Stepping(o, func(string) error {
		if n--; n < 0 {
			panic(stopped{})
		}
		return nil
	}))
}

func TestConversionsThatAreCutLeaveTheOldDirectoryOrTheNew(t *testing.T) {
	for _, way := range []struct{ from, to *crypt.Key }{
		{nil, crypt.NewKey(crypt.AES)}, {crypt.NewKey(crypt.AES), nil}, {crypt.NewKey(crypt.AES), crypt.NewKey(crypt.AES)},
	} {
		old, changed := 0, 0
		filled := t.TempDir()
		fillDirectory(t, filled, keysOf(way.from))
		whole := readDirectory(t, filled, keysOf(way.from))
		for n := 0; ; n++ {
			dir := t.TempDir()
			must(t, os.CopyFS(dir, os.DirFS(filled)))
			reached, err := convertUntil(dir, conversionTo(t, way.from, way.to), n)
			must(t, err)
			// The box's next start ends what was begun, or takes it back.
			s, err := store.Open(dir, directoryOptions(keysOf(way.to)))
			keys := keysOf(way.to)
			if err == nil && s.Key() != nil && way.from != nil && way.to != nil && s.Key().Check() == way.from.Check() {
				old, keys = old+1, keysOf(way.from)
			} else if err == nil {
				changed++
			} else {
				old, keys = old+1, keysOf(way.from)
			}
			if err == nil {
				must(t, s.Close())
			}
			if got := readDirectory(t, dir, keys); got.String() != whole.String() {
				t.Fatalf("step %d: %v, was %v", n, got, whole)
			}
			for _, left := range []string{".converted", "CONVERTED", "replaced"} {
				if found, _ := filepath.Glob(filepath.Join(dir, "*"+left+"*")); len(found) > 0 {
					t.Errorf("step %d: %v is left", n, found)
				}
			}
			if !reached {
				break
			}
		}
		if old < 3 || changed < 3 {
			t.Errorf("stopped %d times before the change and %d times behind it", old, changed)
		}
	}
}

func TestConversionsRefuseWhatTheyCannotKeep(t *testing.T) {
	k := crypt.NewKey(crypt.AES)
	dir := t.TempDir()
	fillDirectory(t, dir, nil)
	o := conversionTo(t, nil, k)
	aside := filepath.Join(dir, "log", "00000001.seg.bad")
	must(t, os.WriteFile(aside, nil, 0o600))
	want(t, store.Convert(dir, o), store.ErrAside)
	must(t, os.Remove(aside))

	foreign := o
	foreign.Box = coord.BoxID{7}
	want(t, store.Convert(dir, foreign), store.ErrIdentity)

	s, err := store.Open(dir, directoryOptions(nil))
	must(t, err)
	want(t, store.Convert(dir, o), store.ErrLocked)
	must(t, s.Close())

	name := store.SegmentName(filepath.Join(dir, "log"), 1)
	data, err := os.ReadFile(name)
	must(t, err)
	data[200] ^= 1
	must(t, os.WriteFile(name, data, 0o600))
	want(t, store.Convert(dir, o), store.ErrDamaged)
	want(t, store.Convert(filepath.Join(dir, "nothing"), o), fs.ErrNotExist)
}
