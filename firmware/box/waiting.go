package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/joining"
)

// errWaits says that the box has no site yet.
var errWaits = errors.New("the box has no site yet")

const (
	// siteLook is how often a waiting box looks whether it has a site: `holdfast site init` and `holdfast site join` write it down.
	siteLook = 200 * time.Millisecond
	// waitingTime bounds a request to a waiting box, and how long it may take when the box goes on.
	waitingTime = 5 * time.Second
)

// wait serves the console of a box that has no site until site.json appears, and says what to do. It holds no port but the console's, so
// that whoever brings the box into a site can use the others. It returns ctx's error when that comes first.
func wait(ctx context.Context, c *config.Config, key *trust.Identity, log *slog.Logger) error {
	console, err := openConsoleOnly(ctx, c)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: waitingPages(c, key), ReadHeaderTimeout: waitingTime, ReadTimeout: waitingTime, WriteTimeout: waitingTime,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, l := range console {
		go func() { stop(s.Serve(l)) }()
	}
	log.Warn("this box waits for a site", "todo", todo(c), "id", key.ID(), "key", key.Place(), "dir", c.DataDir)
	asking, enough := context.WithCancel(serving)
	var joins sync.WaitGroup
	joins.Go(func() {
		if err := joining.FromConfig(asking, c, key, log); err != nil && asking.Err() == nil {
			log.Error("this box did not join; it waits on", "err", err)
		}
	})
	err = awaitSite(serving, c.DataDir)
	enough()
	joins.Wait()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitingTime)
	defer cancel()
	if e := s.Shutdown(limit); err == nil && e != nil {
		err = s.Close()
	}
	if err == nil {
		log.Info("this box is in a site now")
	} else if cause := context.Cause(serving); ctx.Err() == nil && cause != nil {
		return fmt.Errorf("box: %w: console: %w", ErrPart, cause)
	}
	return err
}

// awaitSite returns when dir has a member set, which is there as a whole or not at all.
func awaitSite(ctx context.Context, dir string) error {
	look := time.NewTicker(siteLook)
	defer look.Stop()
	for {
		if _, err := os.Stat(filepath.Join(dir, trust.SiteFile)); err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func openConsoleOnly(ctx context.Context, c *config.Config) ([]net.Listener, error) {
	only := *c
	only.Native.Socket = ""
	s, err := openSockets(ctx, &only)
	if err != nil {
		return nil, err
	}
	if c.Console.Listen == "" {
		return present(s.console), nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Console.Listen)
	if err != nil {
		return nil, errors.Join(listenError("console.listen", c.Console.Listen, err), s.close())
	}
	return present(l, s.console), nil
}

// Waits is what a waiting box says of itself at /api/v1/waiting.
type Waits struct {
	Waiting bool        `json:"waiting"`
	ID      coord.BoxID `json:"id"`
	Name    string      `json:"name,omitempty"`
	Key     []byte      `json:"key"` // public, PKIX DER
	Todo    string      `json:"todo"`
}

// todo says what a person is to do with a waiting box.
func todo(c *config.Config) string {
	if hasState(c.DataDir) {
		return fmt.Sprintf("this box has been in a site, and its %s is gone: bring that of another box of the site, and give it to this one with `holdfast site adopt FILE`", trust.SiteFile)
	}
	return "this box is not in a site yet: on it, found one with `holdfast site init`, join one with `holdfast site join TOKEN`, or, where it was added to one by its key, give it the list with `holdfast site adopt FILE`"
}

func waitingPages(c *config.Config, key *trust.Identity) http.Handler {
	mux := http.NewServeMux()
	text := func(code int, what string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(code)
			_, _ = fmt.Fprintln(w, what) // the reader has gone: nothing to tell it
		}
	}
	mux.HandleFunc("GET /{$}", text(http.StatusOK, fmt.Sprintf("holdfast box %v\n\n%s", key.ID(), todo(c))))
	mux.HandleFunc("GET /healthz", text(http.StatusOK, "ok"))
	mux.HandleFunc("GET /api/v1/waiting", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Waits{true, key.ID(), c.Name, key.PublicKey(), todo(c)}) // as above
	})
	mux.HandleFunc("/", text(http.StatusServiceUnavailable, todo(c)))
	return mux
}
