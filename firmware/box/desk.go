package box

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// documents are those of the site's state, where it keeps some.
type documents struct{ s *site.Site }

func (d documents) Doc(key string) (coord.Doc, bool) {
	if m, ok := any(d.s.State()).(operators.Documents); ok {
		return m.Doc(key)
	}
	return coord.Doc{}, false
}

func (d documents) Docs(prefix string) []coord.Doc {
	if m, ok := any(d.s.State()).(operators.Documents); ok {
		return m.Docs(prefix)
	}
	return nil
}

var errDecide = errors.New("this release cannot have the site decide yet")

// openDesk makes the place where operators log in.
func openDesk(c *config.Config, s *site.Site, l *ledger, log *slog.Logger) (*operators.Desk, error) {
	founding, err := operators.LoadFounding(c.DataDir)
	if err != nil {
		return nil, err
	}
	return operators.NewDesk(operators.Config{
		Documents: documents{s}, Founding: founding, Code: func() (string, error) { return setupCode(c.DataDir) },
		Decide: func(context.Context, *coord.Decision, *operators.Session) error { return errDecide },
		Record: l.Record, Logger: log, Now: time.Now,
	})
}
