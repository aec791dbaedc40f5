// Package pinned keeps files whose bytes are known beforehand, by size and SHA-256, in a cache: what an image is made of. They are checked each
// time that they are used.
package pinned

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Errors.
var (
	// ErrGone says that a file is no more where it came from.
	ErrGone = errors.New("pinned: it is not there any more")
	// ErrHash says that a file is not the one that was pinned.
	ErrHash = errors.New("pinned: not the bytes that were pinned")
	// ErrOffline says that a file is not in the cache, and that nothing may be downloaded.
	ErrOffline = errors.New("pinned: not in the cache")
)

// headerWait is how long a server may take to say anything.
const headerWait = 30 * time.Second

// Store is the files on this machine.
type Store struct {
	Dir     string // the cache; it is made when it is needed
	Offline bool
	// Said is told what is being downloaded; nil: nobody.
	Said func(string)
}

// Item is a file that is pinned, and where it comes from.
type Item struct {
	Label  string // for people
	File   string // its name in the cache, behind the beginning of its hash
	URL    string
	Size   int64 // bytes
	SHA256 string
}

func (i Item) String() string { return i.Label }

// Cached is where the cache has a file, if it has it.
func (s *Store) Cached(i Item) string { return filepath.Join(s.Dir, i.SHA256[:16]+"-"+i.File) }

// Fetch opens a pinned file, from the cache or from where it comes from. The caller closes it.
// Errors: ErrGone, ErrHash, ErrOffline, and the disk's and the network's.
func (s *Store) Fetch(ctx context.Context, p Item) (*os.File, error) {
	name := s.Cached(p)
	f, err := os.Open(name)
	if err == nil {
		if err = check(f, p); err == nil {
			return f, nil
		}
		err = errors.Join(err, f.Close())
		if !errors.Is(err, ErrHash) {
			return nil, err
		}
		if s.Offline {
			return nil, fmt.Errorf("%w; the cache is damaged: run once without --offline", err)
		}
		// What is in the cache was cut short or changed: take it anew.
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("pinned: %w", err)
		}
		err = fs.ErrNotExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pinned: %w", err)
	}
	if s.Offline {
		return nil, fmt.Errorf("%w: %v; run once without --offline, or point --cache to a folder that has it", ErrOffline, p)
	}
	if err := s.download(ctx, p, name); err != nil {
		return nil, err
	}
	f, err = os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("pinned: %w", err)
	}
	return f, nil
}

// check reads a file whole and leaves it at its beginning.
func check(f io.ReadSeeker, p Item) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, p.Size+1))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("pinned: read %s: %w", p.Label, err)
	}
	return p.compare(n, h)
}

func (p Item) compare(n int64, h hash.Hash) error {
	if got := hex.EncodeToString(h.Sum(nil)); n != p.Size || got != p.SHA256 {
		return fmt.Errorf("%w: %v has %d bytes with SHA-256 %s; pinned are %d with %s", ErrHash, p, n, got, p.Size, p.SHA256)
	}
	return nil
}

// download writes a file into the cache: whole and checked, or not at all.
func (s *Store) download(ctx context.Context, p Item, name string) error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	if s.Said != nil {
		s.Said(fmt.Sprintf("download %v, %d MB", p, (p.Size+500_000)/1_000_000))
	}
	body, err := s.Open(ctx, p.URL)
	if errors.Is(err, ErrGone) {
		return fmt.Errorf("%w: %v", err, p)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	t, err := os.CreateTemp(s.Dir, "get-*")
	if err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	defer os.Remove(t.Name()) // when it has not got its name
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, h), io.LimitReader(body, p.Size+1))
	if err == nil {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("pinned: download %s: %w", p.Label, err)
	}
	if err := p.compare(n, h); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), name); err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	return nil
}

// Open asks for a file that is not pinned. The caller closes it.
func (s *Store) Open(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("pinned: %w", err)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: headerWait}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("pinned: %w; another mirror: --mirror, or HOLDFAST_MIRROR, and GOPROXY for Go modules", err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return body{resp.Body, transport}, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		err = ErrGone
	default:
		err = fmt.Errorf("pinned: %s: %s", url, resp.Status)
	}
	return nil, errors.Join(err, body{resp.Body, transport}.Close())
}

// body closes the connection with what came over it.
type body struct {
	io.ReadCloser
	t *http.Transport
}

func (b body) Close() error {
	err := b.ReadCloser.Close()
	b.t.CloseIdleConnections()
	return err
}
