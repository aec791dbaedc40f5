package box

import (
	"context"
	"crypto/tls"
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
	"github.com/holdfast-edge/holdfast/firmware/crowd"
	"github.com/holdfast-edge/holdfast/firmware/joining"
	"github.com/holdfast-edge/holdfast/firmware/setupcode"
	"github.com/holdfast-edge/holdfast/firmware/supervise/status"
	"github.com/holdfast-edge/holdfast/firmware/waiting"
)

// errWaits says that the box has no site yet.
var errWaits = errors.New("the box has no site yet")

const (
	// siteLook is how often a waiting box looks whether it has a site: `holdfast site init` and `holdfast site join` write it down.
	siteLook = 200 * time.Millisecond
	// waitingTime bounds a request to a waiting box, and how long it may take when the box goes on.
	waitingTime = 5 * time.Second
)

// wait serves the console of a box that has no site until site.json appears: there one brings it into a site, and it says what else can be
// done. It holds no port but the console's, so that whoever brings the box into a site can use the others. It returns ctx's error when that
// comes first.
func wait(ctx context.Context, c *config.Config, key *trust.Identity, log *slog.Logger) error {
	console, err := openConsoleOnly(ctx, c, key)
	if err != nil {
		return err
	}
	desk := waiting.New(waiting.Config{
		ID: key.ID(), Key: key.PublicKey(), Box: listed(c), Todo: todo(c), Notice: mediumNotice(status.File), Closed: hasState(c.DataDir), Logger: log, Now: time.Now,
		Code: func() (string, error) { return setupcode.Of(c.DataDir) },
		Do:   func(w waiting.Wish) waiting.Errand { return errandOf(c, key, w) },
	})
	s := &http.Server{
		Handler: desk.Handler(), ReadHeaderTimeout: waitingTime, ReadTimeout: waitingTime, WriteTimeout: waitingTime,
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
	var first waiting.Errand
	if c.Join.TokenFile != "" {
		first = func(ctx context.Context, tell func(string)) error {
			return joining.FromConfig(ctx, c, key, func(p joining.Progress) { tell(p.String()) })
		}
	}
	joins.Go(func() { desk.Run(asking, first) })
	if err = awaitSite(serving, c.DataDir); err == nil {
		desk.Leave(serving)
	}
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

// listed is how the box would be listed as its configuration says, as far as it does.
func listed(c *config.Config) coord.Member {
	if m, err := joining.Entry(c, coord.Member{}); err == nil {
		return *m
	}
	return coord.Member{Name: c.Name}
}

// errandOf does what somebody wants of a waiting box.
func errandOf(c *config.Config, key *trust.Identity, w waiting.Wish) waiting.Errand {
	known := *c
	if host, _, err := net.SplitHostPort(w.Box.Peer); err == nil && known.Join.Address == "" {
		known.Join.Address = host // the other ports are on the same machine
	}
	return func(ctx context.Context, tell func(string)) error {
		if w.Token != nil {
			return joining.With(ctx, &known, key, w.Token, w.Servers, w.Box, func(p joining.Progress) { tell(p.String()) })
		}
		m, err := joining.Entry(&known, w.Box)
		if err == nil {
			_, err = joining.Found(&known, key, *m)
		}
		return err
	}
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

func openConsoleOnly(ctx context.Context, c *config.Config, key *trust.Identity) ([]net.Listener, error) {
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
	l = crowd.Share(l, max(1, c.Limits.ConsoleConnections/2))
	if c.Console.Secure() {
		get, err := certificates("console", c.Console.CertFile, c.Console.KeyFile, key, c.Console.Listen, listed(c).Console)
		if err != nil {
			return nil, errors.Join(err, l.Close(), s.close())
		}
		l = tls.NewListener(l, &tls.Config{GetCertificate: get, MinVersion: tls.VersionTLS13})
	}
	return present(l, s.console), nil
}

// todo says what a person is to do with a waiting box.
func todo(c *config.Config) string {
	if hasState(c.DataDir) {
		return fmt.Sprintf("this box has been in a site, and its %s is gone: bring that of another box of the site, and give it to this one with `holdfast site adopt FILE`", trust.SiteFile)
	}
	return "this box is not in a site yet: on its console, with its setup code, join or found one; or, on it, found one with `holdfast site init`, join one with `holdfast site join TOKEN`, or, where it was added to one by its key, give it the list with `holdfast site adopt FILE`"
}
