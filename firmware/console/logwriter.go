package console

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// logWriter writes committed blocks as api.LogLine, one JSON line each, holding one batch
// in memory at a time.
type logWriter struct {
	out     io.Writer
	decoder *wire.BodyDecoder
	cols    coord.Columns
}

func newLogWriter(out io.Writer) *logWriter {
	return &logWriter{out: out, decoder: wire.NewBodyDecoder()}
}

func (l *logWriter) write(b *site.LogBlock) error {
	head := api.LogHead{
		Height: b.Block.Height, Epoch: b.Block.Epoch, Round: b.Block.Round,
		Digest: b.Digest.String(), Parent: b.Block.Parent.String(), Leader: b.Leader,
		Certificate: certificate(b.Cert), Batches: make([]api.Batch, len(b.Batches)),
	}
	for i, batch := range b.Batches {
		head.Batches[i] = api.Batch{Author: batch.Author, Seq: batch.Seq, Count: batch.Count, Signature: hex.EncodeToString(batch.Sig[:])}
		if i < len(b.Block.Refs) {
			head.Batches[i].Digest = b.Block.Refs[i].Digest.String()
		}
		if err := l.decoder.DecodeBody(batch.Body, &l.cols); err != nil {
			head.Batches[i].Error = err.Error()
		}
	}
	line, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("console: write log: %w", err)
	}
	if _, err := fmt.Fprintf(l.out, "%s,\"messages\":[", line[:len(line)-1]); err != nil {
		return err
	}
	if err := l.messages(b.Batches, head.Batches); err != nil {
		return err
	}
	_, err = io.WriteString(l.out, "]}\n")
	return err
}

func (l *logWriter) messages(batches []*coord.Batch, said []api.Batch) error {
	separator := ""
	for i, batch := range batches {
		if said[i].Error != "" {
			continue
		}
		if err := l.decoder.DecodeBody(batch.Body, &l.cols); err != nil {
			return fmt.Errorf("console: write log: %w", err)
		}
		for j := range l.cols.Len() {
			text, err := json.Marshal(message(&l.cols, j, i))
			if err != nil {
				return fmt.Errorf("console: write log: %w", err)
			}
			if _, err := io.WriteString(l.out, separator); err != nil {
				return err
			}
			if _, err := l.out.Write(text); err != nil {
				return err
			}
			separator = ","
		}
	}
	return nil
}

func message(c *coord.Columns, i, batch int) api.Message {
	m := api.Message{
		Batch: batch, Kind: kindName(c.Kinds[i]), Session: fmt.Sprintf("%016x", c.Sessions[i]), Seq: c.Seqs[i],
		Time: time.UnixMilli(c.Times[i]).UTC(), Key: c.Key(i), Value: c.Value(i),
	}
	if year := m.Time.Year(); year < 0 || year > 9999 {
		m.Time = time.Time{} // a liar's clock: RFC 3339 cannot say it
	}
	if c.Kinds[i] == coord.KindObserve && len(m.Key) == 8 {
		object, count := binary.BigEndian.Uint64(m.Key), uint64(1)
		if len(m.Value) > 0 {
			count, _ = binary.Uvarint(m.Value)
		}
		m.Object, m.Count = &object, &count
	}
	return m
}

// kindNames are those of the kinds that a log has, in their order from 1.
var kindNames = [...]string{
	"open", "put", "delete", "get", "observe", "checkpoint", "kv", "lease", "compact", "tick", "barrier", "lead", "prove", "decide", "audit", "opinion", "trace",
}

func kindName(k coord.Kind) string {
	if k < 1 || int(k) > len(kindNames) {
		return fmt.Sprintf("kind %d", k)
	}
	return kindNames[k-1]
}

func certificate(c *coord.Cert) *api.Certificate {
	if c == nil {
		return nil
	}
	out := &api.Certificate{
		Kind: c.Kind.String(), Epoch: c.Epoch, Round: c.Round, Digest: c.Digest.String(),
		Signatures: make([]api.Signature, len(c.Sigs)),
	}
	for i, s := range c.Sigs {
		out.Signatures[i] = api.Signature{Voter: s.Voter, Level: s.Level, Signature: hex.EncodeToString(s.Sig[:])}
	}
	return out
}
