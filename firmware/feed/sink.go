package feed

import (
	"context"
	"fmt"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/client"
)

// NewSink feeds a site through its native client; boxes is how many endpoints c has. The caller closes c.
func NewSink(c *client.Client, boxes int) Sink { return &sink{c, boxes} }

type sink struct {
	client *client.Client
	boxes  int
}

func (s *sink) Boxes() int { return s.boxes }

func (s *sink) Retried() uint64 { return s.client.Stats().Retried }

func (s *sink) Observe(ctx context.Context, box int, objects []uint32) error {
	var m client.Messages
	for _, o := range objects {
		m.Observe(uint64(o), 1)
	}
	reply, err := s.client.SubmitTo(ctx, box, &m)
	if err != nil {
		return err
	}
	if reply.Code != coord.CodeOK {
		return fmt.Errorf("feed: the site refused: %s", reply.Code)
	}
	return nil
}
