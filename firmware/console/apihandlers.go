package console

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// proofTimeMax is how long a quorum may take to sign.
const proofTimeMax = 5 * time.Second

// topDefault is how many objects /api/v1/top lists when not told.
const topDefault = 20

// apiStatus leaves out what has actions of its own, for who may not see it.
func (c *Console) apiStatus(w http.ResponseWriter, r *http.Request) {
	v := *c.cfg.Site.View()
	if !c.sees(r, "trust.read") {
		v.Trust = []site.TrustView{}
	}
	if !c.sees(r, "decision.list") {
		v.Decisions, v.Decided = []site.DecisionView{}, []site.Outcome{}
	}
	writeJSON(w, &v)
}

func (c *Console) apiMembers(w http.ResponseWriter, r *http.Request) {
	if epoch := r.URL.Query().Get("epoch"); epoch != "" {
		c.apiMembersOf(w, r, epoch)
		return
	}
	v := c.cfg.Site.View()
	m := api.Members{Site: v.Site, Epoch: v.Epoch, N: v.N, F: v.F, Quorum: v.Quorum, Members: v.Members}
	if local(r.Context()) {
		m.NativeSocket = c.cfg.NativeSocket
	}
	writeJSON(w, m)
}

func (c *Console) apiBlocks(w http.ResponseWriter, _ *http.Request) {
	v := c.cfg.Site.View()
	writeJSON(w, api.Blocks{Height: v.Height, Blocks: v.Blocks})
}

func (c *Console) apiTop(w http.ResponseWriter, r *http.Request) {
	n := topDefault
	if s := r.URL.Query().Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 0 || n > api.TopMax {
			apiError(w, http.StatusBadRequest, fmt.Sprintf("n must be a number from 0 to %d", api.TopMax))
			return
		}
	}
	top, err := c.cfg.Site.Top(n)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	if top.Top == nil {
		top.Top = []site.Count{}
	}
	writeJSON(w, top)
}

func (c *Console) apiKV(w http.ResponseWriter, r *http.Request) {
	key := []byte(r.PathValue("key"))
	value, revision, found, err := c.cfg.Site.Get(key)
	switch {
	case err != nil:
		c.failed(w, r, err)
	case !found:
		apiError(w, http.StatusNotFound, "no such key")
	default:
		writeJSON(w, api.KV{Key: key, Value: value, Revision: revision})
	}
}

// apiProof has the site sign what a key is, for a client that names a nonce.
func (c *Console) apiProof(w http.ResponseWriter, r *http.Request) {
	nonce, err := hex.DecodeString(r.URL.Query().Get("nonce"))
	if err != nil || len(nonce) < coord.NonceBytesMin || len(nonce) > coord.NonceBytesMax {
		apiError(w, http.StatusBadRequest, fmt.Sprintf("nonce must be %d to %d bytes that you never used before, in hexadecimal digits", coord.NonceBytesMin, coord.NonceBytesMax))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), proofTimeMax)
	defer cancel()
	p, err := c.cfg.Site.Prove(ctx, []byte(r.PathValue("key")), nonce)
	switch {
	case errors.Is(err, site.ErrBusy) || errors.Is(err, context.DeadlineExceeded):
		apiError(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		c.failed(w, r, err)
	default:
		writeJSON(w, p)
	}
}

// apiLog streams one JSON line a block, so that neither side holds the log in memory.
func (c *Console) apiLog(w http.ResponseWriter, r *http.Request) {
	v := c.cfg.Site.View()
	oldest := max(v.LogFrom, 1)
	from, errFrom := height(r, "from", oldest)
	to, errTo := height(r, "to", v.Height)
	switch {
	case errFrom != nil || errTo != nil || r.URL.Query().Has("to") && to < from:
		apiError(w, http.StatusBadRequest, "from and to must be block heights, from <= to")
		return
	case from < oldest:
		apiError(w, http.StatusGone, fmt.Sprintf("blocks before height %d are no longer in this box's log", oldest))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if to = min(to, v.Height); from > to {
		return // nothing of that is ordered yet
	}
	out := bufio.NewWriter(w)
	lines := newLogWriter(out)
	control := http.NewResponseController(w)
	wrote := false
	err := c.cfg.Site.Log(from, to, func(b *site.LogBlock) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		wrote = true
		// Each block has its own time; a connection that cannot set one keeps the server's.
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeMax))
		return lines.write(b)
	})
	if err == nil {
		err = out.Flush()
	}
	if err != nil && !wrote {
		c.failed(w, r, err)
		return
	}
	if err != nil {
		c.cfg.Logger.Info("log was not sent whole", "err", err)
		panic(http.ErrAbortHandler) // net/http's way to say that an answer broke off
	}
}

func (c *Console) apiEvidence(w http.ResponseWriter, r *http.Request) {
	x, err := c.cfg.Site.Evidence()
	if err != nil {
		c.failed(w, r, err)
		return
	}
	writeJSON(w, x)
}

func height(r *http.Request, name string, absent uint64) (uint64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return absent, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

func (c *Console) failed(w http.ResponseWriter, r *http.Request, err error) {
	c.cfg.Logger.Warn("console request failed", "path", r.URL.Path, "err", err)
	apiError(w, http.StatusInternalServerError, err.Error())
}

func apiError(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(api.Error{Error: text})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only when the reader has gone
}
