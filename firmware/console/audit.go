package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/store"
)

// Audit is the box's audit log as the console shows it; *store.Audit is one.
type Audit interface {
	Span() (first, size, exported int64)
	Read(from, to int64, f audit.Filter, fn func(e *audit.Entry) bool) error
	Archive(w io.Writer, from, to int64) error
	Heads(box coord.BoxID) ([]audit.SignedHead, error)
	Proof(index int64) (*audit.Proof, error)
	MarkExported(index int64) error
}

// socketOnly hides a page from the network: who did what is for the box's own user.
func socketOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || a.Network() != "unix" {
			apiError(w, http.StatusForbidden, "this is shown on the box's own socket only: ask on the box itself, --addr unix:///PATH/holdfast.sock")
			return
		}
		next(w, r)
	}
}

// apiAudit streams the entries that the query chooses, a line each.
func (c *Console) apiAudit(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := audit.Filter{Principal: q.Get("principal"), Action: q.Get("action"), Resource: q.Get("resource"), Request: q.Get("request")}
	var err error
	number := func(name string, def int64) int64 {
		s := q.Get(name)
		if s == "" {
			return def
		}
		v, e := strconv.ParseInt(s, 10, 64)
		if e != nil || v < 0 {
			err = fmt.Errorf("%s must be a number of at least 0", name)
		}
		return v
	}
	f.FromMs, f.ToMs = number("from_ms", 0), number("to_ms", 0)
	from, to, last := number("from", 0), number("to", math.MaxInt64), number("last", 0)
	if s := q.Get("outcome"); s != "" && f.Outcome.UnmarshalText([]byte(s)) != nil {
		err = errors.New("outcome must be allowed, denied or failed")
	}
	if err != nil {
		apiError(w, http.StatusBadRequest, err.Error())
		return
	}
	if last > 0 {
		// The newest that match: their places first, for the log can only be read forward.
		places := make([]int64, 0, min(last, lastMax))
		err = c.cfg.Audit.Read(from, to, f, func(e *audit.Entry) bool {
			if len(places) == cap(places) {
				copy(places, places[1:])
				places = places[:len(places)-1]
			}
			places = append(places, e.Index)
			return true
		})
		if err != nil {
			c.failed(w, r, err)
			return
		}
		if from = math.MaxInt64; len(places) > 0 {
			from = places[0]
		}
	}
	c.lines(w, r, func(line func(v any) error) error {
		var failed error
		err := c.cfg.Audit.Read(from, to, f, func(e *audit.Entry) bool {
			failed = line(e)
			return failed == nil && r.Context().Err() == nil
		})
		return errors.Join(err, failed)
	})
}

// lastMax bounds how many of the newest entries can be asked for.
const lastMax = 10_000

// lines streams JSON, a line each.
func (c *Console) lines(w http.ResponseWriter, r *http.Request, write func(line func(v any) error) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriter(w)
	to := json.NewEncoder(out)
	control := http.NewResponseController(w)
	wrote := false
	err := write(func(v any) error {
		wrote = true
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeMax))
		return to.Encode(v)
	})
	if err == nil {
		err = out.Flush()
	}
	switch {
	case err == nil:
	case !wrote:
		c.failed(w, r, err)
	default:
		c.cfg.Logger.Info("an answer was not sent whole", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler) // net/http's way to say that an answer broke off
	}
}

// apiAuditLog streams the log as an archive, for somebody else to keep and to verify.
func (c *Console) apiAuditLog(w http.ResponseWriter, r *http.Request) {
	first, size, _ := c.cfg.Audit.Span()
	w.Header().Set("Content-Type", "application/x-ndjson")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(archiveTimeMax))
	out := &written{w: w}
	err := c.cfg.Audit.Archive(out, first, size)
	switch {
	case err == nil:
	case out.n == 0:
		c.failed(w, r, err)
	default:
		c.cfg.Logger.Info("an answer was not sent whole", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// archiveTimeMax is how long somebody may take to read the whole log; the box's file cannot shrink meanwhile.
const archiveTimeMax = time.Minute

// written counts what was written.
type written struct {
	w io.Writer
	n int
}

func (c *written) Write(b []byte) (int, error) {
	c.n += len(b)
	return c.w.Write(b)
}

// apiAuditHeads streams the signed heads of a box's log that this box has.
func (c *Console) apiAuditHeads(w http.ResponseWriter, r *http.Request) {
	box := c.cfg.Site.View().ID
	if s := r.URL.Query().Get("box"); s != "" {
		if err := box.UnmarshalText([]byte(s)); err != nil {
			apiError(w, http.StatusBadRequest, "box must be a box's id")
			return
		}
	}
	heads, err := c.cfg.Audit.Heads(box)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	c.lines(w, r, func(line func(v any) error) error {
		for i := range heads {
			if err := line(&heads[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// auditActs are what is done with the audit log itself, on the box's socket only: whoever marks records lets them go.
func (c *Console) auditActs() []*Act {
	return []*Act{{
		Path: "/audit/exported", Action: "audit.export", Resource: func(p Params) string { return "records:0-" + p["to"] }, Back: "/",
		Run: func(_ context.Context, x *Caller, p Params) (any, error) {
			if !x.Local {
				return nil, fmt.Errorf("%w: records are marked on the box itself; run `holdfast audit export --mark` there", ErrBad)
			}
			to, err := strconv.ParseInt(p["to"], 10, 64)
			if first, size, _ := c.cfg.Audit.Span(); err != nil || to < first || to > size {
				return nil, fmt.Errorf("%w: \"to\" must be a number of records from %d to %d", ErrBad, first, size)
			}
			return map[string]string{"result": "done"}, c.cfg.Audit.MarkExported(to)
		},
	}}
}

func (c *Console) apiAuditProof(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.ParseInt(r.PathValue("index"), 10, 64)
	if err != nil {
		apiError(w, http.StatusBadRequest, "the index must be a number")
		return
	}
	p, err := c.cfg.Audit.Proof(i)
	switch {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, audit.ErrPruned):
		apiError(w, http.StatusNotFound, err.Error())
	case err != nil:
		c.failed(w, r, err)
	default:
		writeJSON(w, p)
	}
}
