package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/batch"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/hal/linux"
)

// detectBefore is the detector's patience before.
const detectBefore = 10 * time.Second

// runBox is one box: "box before|after|untraced --config FILE". All that the product's own start does is done in both.
func runBox(ctx context.Context, args []string) error {
	if len(args) != 3 || args[0] != "before" && args[0] != "after" && args[0] != "untraced" || args[1] != "--config" {
		return errors.New("box before|after|untraced --config FILE")
	}
	linux.Patient()
	c, err := config.Load(args[2])
	if err != nil {
		return err
	}
	o := box.Options{Config: c, Version: "targets", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if args[0] == "before" {
		o.Edit, o.Wrap = before, verifyAll
	}
	if args[0] == "untraced" {
		o.Edit = untraced
	}
	debug.SetMemoryLimit(int64(c.Limits.MemorySoft))
	debug.SetGCPercent(c.Limits.GCPercent)
	return box.Run(ctx, o)
}

// before switches batches, compression and waiting off.
func before(c *site.BoxConfig) {
	const alone, inflight = 1, 64 // one message a batch; batches of a box on their way
	one := batch.Level{Target: alone, LingerShare: 1e-9}
	c.Tuning.Batch = batch.Policy{Low: one, Normal: one, High: one, MessagesMax: alone, InflightMax: inflight, LingerMax: 1}
	c.Tuning.PipelineBytes, c.Tuning.PipelineDelay, c.Tuning.Spacing = 1, 1, 1
	c.Codec = plain{}
	keysOf := c.KeysOf
	c.KeysOf = func(m *coord.Members) (site.Keys, int, error) {
		k, self, err := keysOf(m)
		return checked{k}, self, err
	}
}

// checked are the keys of a box all of whose messages have come through verifyAll: a leader does not check a batch's signature again.
type checked struct{ site.Keys }

// VerifyBatch is site.Keys's.
func (checked) VerifyBatch(*coord.Batch) bool { return true }

// detectLate makes a box patient with silent ones.
func detectLate(c *config.Config) {
	c.Timeouts.PeerStall, c.Timeouts.PeerDead = config.Duration(detectBefore), config.Duration(detectBefore+time.Second)
}

// verifyAll checks the signature of each vote and batch once, when it arrives. What does not hold is dropped, as the product does
// when it checks.
func verifyAll(w box.Wrapped, connect box.Connect) box.Connect {
	return func(h site.Handlers) (site.Links, error) {
		deliver := h.Message
		h.Message = func(from coord.BoxID, m *coord.PeerMsg) {
			if m.Vote != nil && !w.Keys.VerifyVote(m.Vote) || m.Batch != nil && !w.Keys.VerifyBatch(m.Batch) {
				return
			}
			deliver(from, m)
		}
		return connect(h)
	}
}

// plain is bodies of JSON, a record for each message. Keys and values may be any bytes, so they are base64, as encoding/json has them.
type plain struct{}

type record struct {
	Kind    uint8  `json:"kind"`
	Session uint64 `json:"session"`
	Seq     uint64 `json:"seq"`
	Time    int64  `json:"time"`
	Key     []byte `json:"key"`
	Value   []byte `json:"value"`
}

// AppendBody is site.Codec's.
func (plain) AppendBody(dst []byte, c *coord.Columns) []byte {
	records := make([]record, c.Len())
	for i := range records {
		records[i] = record{uint8(c.Kinds[i]), c.Sessions[i], c.Seqs[i], c.Times[i], c.Key(i), c.Value(i)}
	}
	b, err := json.Marshal(records)
	if err != nil {
		panic(err) // of numbers and bytes: it cannot be
	}
	return append(dst, b...)
}

// DecodeBody is site.Codec's. The body is bounded by the frame that it came in.
func (plain) DecodeBody(body []byte, c *coord.Columns) error {
	var records []record
	if err := json.Unmarshal(body, &records); err != nil {
		return err
	}
	if len(records) > coord.BatchMessagesMax {
		return fmt.Errorf("%d messages in a batch", len(records))
	}
	c.Reset()
	for _, r := range records {
		c.Add(coord.Kind(r.Kind), r.Session, r.Seq, r.Time, r.Key, r.Value)
	}
	return nil
}
