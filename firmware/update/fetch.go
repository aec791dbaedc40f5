package update

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/slots"
)

const (
	// fetchAgain is how long a box waits when nobody had the bundle.
	fetchAgain = 5 * time.Second
	// chunkTimeMax is how long a chunk may take: 140 kbit/s.
	chunkTimeMax = 60 * time.Second
	connectMax   = 10 * time.Second
	// BundlePath is where a box has its bundles for others, followed by the id.
	BundlePath = "/api/v1/update/bundles/"
)

// fetching is a bundle on its way to this box.
type fetching struct {
	show api.UpdateFetch
	on   bool
	when time.Time // it ended
}

// begin makes h the bundle that is on its way. r.using is held.
func (r *Runner) begin(h *release.Head) *fetching {
	f := &fetching{on: true, show: api.UpdateFetch{Bundle: h.ID(), Version: h.Version, Bytes: h.Kernel.Bytes + h.Initrd.Bytes}}
	r.mu.Lock()
	r.fetch = f
	r.mu.Unlock()
	r.forget(r.c.Machine.Slot.Other())
	return f
}

func (r *Runner) told(f *fetching) func(int64) {
	return func(have int64) {
		r.mu.Lock()
		f.show.Have = have
		r.mu.Unlock()
	}
}

func (r *Runner) ended(f *fetching, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.on, f.when = false, time.Now()
	if f.show.Done = err == nil; err != nil {
		f.show.Error = err.Error()
	}
}

// startFetch gets a bundle from the other boxes or from a URL, on a goroutine of its own, unless one is on its way.
func (r *Runner) startFetch(ctx context.Context, id coord.Digest, from string, head []byte) {
	r.mu.Lock()
	f := r.fetch
	r.mu.Unlock()
	if f != nil && (f.on || time.Since(f.when) < fetchAgain) {
		return
	}
	select {
	case r.using <- struct{}{}:
	default:
		return
	}
	h, err := release.ParseHead(head, r.keys(r.c.State()))
	if err != nil || h.ID() != id {
		<-r.using
		r.setWaits(fmt.Sprintf("the bundle of the site's update cannot be taken: %v", err))
		return
	}
	f = r.begin(h)
	r.fetches.Go(func() {
		defer func() { <-r.using }()
		err := r.fetchFrom(ctx, f, h, from)
		if err != nil {
			r.log.Warn("a bundle has not come yet", "version", h.Version, "err", err)
		} else {
			r.log.Info("a bundle is in the other slot", "version", h.Version, "slot", r.c.Machine.Slot.Other())
		}
		r.ended(f, err)
	})
}

// fetchFrom tries who may have the bundle, one after the other; each goes on where the one before ended.
func (r *Runner) fetchFrom(ctx context.Context, f *fetching, h *release.Head, from string) error {
	var sources []string
	for _, m := range r.c.State().Members().List {
		if m.ID != r.c.Self() && m.Console != "" {
			sources = append(sources, "http://"+m.Console+BundlePath+h.ID().String(), "https://"+m.Console+BundlePath+h.ID().String())
		}
	}
	if from != "" {
		sources = append(sources, from)
	}
	errs := fmt.Errorf("update: nobody has the bundle")
	for _, s := range sources {
		to := r.c.Machine.Slot.Other()
		have, err := prepare(r.esp, to, h)
		if err != nil {
			return err
		}
		r.told(f)(have)
		if have == h.Kernel.Bytes+h.Initrd.Bytes {
			return nil
		}
		r.mu.Lock()
		f.show.From = s
		r.mu.Unlock()
		body, err := get(ctx, s, int64(len(h.Bytes()))+have, h.BundleBytes())
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		err = receive(ctx, r.esp, to, h, have, body, r.told(f))
		if err := errors.Join(err, body.Close()); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		return nil
	}
	return errs
}

// get opens a bundle at a byte. What comes is verified chunk by chunk, so that it does not matter who answers.
func get(ctx context.Context, from string, at, end int64) (io.ReadCloser, error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("update: %.200q is not an http or https address", from)
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("update: %w", err)
	}
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, end-1))
	}
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connectMax}).DialContext,
		TLSHandshakeTimeout:   connectMax,
		ResponseHeaderTimeout: chunkTimeMax,
		// A box's certificate is its own, and what it sends is signed by somebody else.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true},
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("update: %w", err)
	}
	b := &download{body: resp.Body, stop: func() { cancel(); t.CloseIdleConnections() }}
	b.timer = time.AfterFunc(chunkTimeMax, cancel)
	switch {
	case resp.StatusCode == http.StatusPartialContent && at > 0, resp.StatusCode == http.StatusOK && at == 0:
		return b, nil
	case resp.StatusCode == http.StatusOK: // it knows no ranges
		if _, err := io.CopyN(io.Discard, b, at); err != nil {
			return nil, errors.Join(fmt.Errorf("update: %s: %w", from, err), b.Close())
		}
		return b, nil
	}
	return nil, errors.Join(fmt.Errorf("update: %s: %s", from, resp.Status), b.Close())
}

// download is a body that may not stand still, nor come drop by drop: a box that lies could keep others from asking who has it.
type download struct {
	body  io.ReadCloser
	timer *time.Timer // ends it; it begins again with each chunk
	came  int         // bytes of this chunk
	stop  func()
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.body.Read(b)
	if d.came += n; d.came >= release.ChunkBytes {
		d.came %= release.ChunkBytes
		d.timer.Reset(chunkTimeMax)
	}
	return n, err
}

func (d *download) Close() error {
	d.timer.Stop()
	d.stop()
	return d.body.Close()
}

// Take takes a bundle as it comes, and gives its head when all of it is in the other slot. older lets it be of an older version.
// Errors: those of coord/release, ErrBusy, ErrCannot, ErrContent.
func (r *Runner) Take(ctx context.Context, from io.Reader, older bool) (*release.Head, error) {
	h, f, err := r.welcome(from, older)
	if err != nil {
		return nil, err
	}
	defer func() { <-r.using }()
	err = r.takeRest(ctx, f, h, from)
	r.ended(f, err)
	return h, err
}

// TakeFrom has the box get a bundle from a URL. It returns when the bundle's head is there and good; the rest comes while Run runs, and View
// says how far it is. Errors: as Take's.
func (r *Runner) TakeFrom(ctx context.Context, from string, older bool) (*release.Head, error) {
	r.mu.Lock()
	life := r.life
	r.mu.Unlock()
	if life == nil {
		return nil, fmt.Errorf("update: %w: the box has just started", ErrCannot)
	}
	body, err := get(life, from, 0, 0)
	if err != nil {
		return nil, err
	}
	h, f, err := r.welcome(body, older)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	r.fetches.Go(func() {
		defer func() { <-r.using }()
		err := r.takeRest(life, f, h, body)
		r.ended(f, errors.Join(err, body.Close()))
	})
	return h, ctx.Err()
}

// welcome reads a bundle's head, and says whether this box takes it. Without an error r.using is held.
func (r *Runner) welcome(from io.Reader, older bool) (*release.Head, *fetching, error) {
	if why := r.cannotNow(); why != "" {
		return nil, nil, fmt.Errorf("update: %w: %s", ErrCannot, why)
	}
	h, err := release.ReadHead(from, r.keys(r.c.State()))
	if err != nil {
		return nil, nil, fmt.Errorf("update: %w", err)
	}
	if err := h.Fits(r.running(), older); err != nil {
		return nil, nil, fmt.Errorf("update: %w", err)
	}
	if err := r.alone(); err != nil {
		return nil, nil, err
	}
	select {
	case r.using <- struct{}{}:
		return h, r.begin(h), nil
	default:
		return nil, nil, fmt.Errorf("update: %w", ErrBusy)
	}
}

// takeRest takes what stands behind a bundle's head.
func (r *Runner) takeRest(ctx context.Context, f *fetching, h *release.Head, from io.Reader) error {
	to := r.c.Machine.Slot.Other()
	have, err := prepare(r.esp, to, h)
	if err != nil {
		return err
	}
	r.told(f)(have)
	if _, err := io.CopyN(io.Discard, from, have); err != nil {
		return fmt.Errorf("update: the bundle broke off: %w", err)
	}
	if err := receive(ctx, r.esp, to, h, have, from, r.told(f)); err != nil {
		return err
	}
	return startable(r.esp, to)
}

// startable says whether a slot's kernel is one that the loader can hand over to. One that it cannot even load ends in the machine's
// own firmware, where it stays until somebody switches it off and on. On a Raspberry Pi the parcel says what is in it. Errors: release.ErrUnfit.
func startable(e *slots.ESP, s slots.Slot) error {
	if e.Tryboot() {
		return nil
	}
	f, err := e.File(s, slots.Kernel)
	if err != nil {
		return err
	}
	var b [2]byte
	_, err = f.ReadAt(b[:], 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if string(b[:]) != "MZ" { // PE format, MS-DOS stub: as UEFI's programs begin
		return fmt.Errorf("update: %w: its kernel is no program for UEFI", release.ErrUnfit)
	}
	return nil
}

// cannotNow is why this box takes no bundle now.
func (r *Runner) cannotNow() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.cannot != "":
		return r.cannot
	case r.trial != nil:
		return "the firmware that runs has not shown yet that it is good: " + r.trial.String()
	}
	return ""
}
