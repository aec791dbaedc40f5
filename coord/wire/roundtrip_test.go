package wire

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/holdfast-edge/holdfast/coord"
)

const roundTrips = 40

func TestEveryPeerMessageDecodesToWhatWasEncoded(t *testing.T) {
	for _, f := range fields(coord.PeerMsg{}) {
		t.Run(f, func(t *testing.T) {
			for seed := range uint64(roundTrips) {
				m := newGen(seed).peer(t, f)
				b := AppendPeer([]byte("before"), m)[len("before"):]
				got, err := DecodePeer(b)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !reflect.DeepEqual(got, m) {
					t.Fatalf("seed %d: got %+v, want %+v", seed, got, m)
				}
			}
		})
	}
}

func TestEveryRecordDecodesToWhatWasEncoded(t *testing.T) {
	for _, f := range fields(coord.Record{}) {
		t.Run(f, func(t *testing.T) {
			for seed := range uint64(roundTrips) {
				r := newGen(seed).record(t, f)
				got, err := DecodeRecord(AppendRecord(nil, r))
				if err != nil || !reflect.DeepEqual(got, r) {
					t.Fatalf("seed %d: got %+v, %v, want %+v", seed, got, err, r)
				}
			}
		})
	}
}

func TestStoredValuesDecodeToWhatWasEncoded(t *testing.T) {
	for seed := range uint64(roundTrips) {
		f, c := newGen(seed).final(), newGen(seed).checkpoint()
		if got, err := DecodeFinal(AppendFinal(nil, f)); err != nil || !reflect.DeepEqual(got, f) {
			t.Fatalf("seed %d: got %+v, %v, want %+v", seed, got, err, f)
		}
		if got, err := DecodeCheckpoint(AppendCheckpoint(nil, c)); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("seed %d: got %+v, %v, want %+v", seed, got, err, c)
		}
		h := newGen(seed).handover()
		if got, err := DecodeHandover(AppendHandover(nil, h)); err != nil || !reflect.DeepEqual(got, h) {
			t.Fatalf("seed %d: got %+v, %v, want %+v", seed, got, err, h)
		}
	}
}

func TestEveryClientMessageDecodesToWhatWasEncoded(t *testing.T) {
	for _, f := range fields(ClientMsg{}) {
		t.Run(f, func(t *testing.T) {
			for seed := range uint64(roundTrips) {
				m := newGen(seed).client(t, f)
				got, err := DecodeClient(AppendClient(nil, m))
				if err != nil || !reflect.DeepEqual(got, m) {
					t.Fatalf("seed %d: got %+v, %v, want %+v", seed, got, err, m)
				}
			}
		})
	}
}

func TestAHeaderIsNotAnEmptyBlock(t *testing.T) {
	for name, refs := range map[string][]coord.BatchRef{"header": nil, "empty block": {}} {
		m, err := DecodePeer(AppendPeer(nil, &coord.PeerMsg{Block: &coord.Block{Refs: refs}}))
		if err != nil || (m.Block.Refs == nil) != (refs == nil) {
			t.Errorf("%s came back as %#v, %v", name, m.Block.Refs, err)
		}
	}
}

func TestARetryHintIsRoundedUp(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Millisecond, time.Millisecond: time.Millisecond, time.Millisecond + 1: 2 * time.Millisecond, -5: 0,
	} {
		m, err := DecodeClient(AppendClient(nil, &ClientMsg{Answer: &Answer{RetryAfter: in}}))
		if err != nil || m.Answer.RetryAfter != want {
			t.Errorf("%v came back as %v, %v, want %v", in, m.Answer.RetryAfter, err, want)
		}
	}
}

// A link reuses its read buffer: what it decoded must not change with it.
func TestDecodedValuesShareNoMemoryWithTheInput(t *testing.T) {
	spoil := func(b []byte) {
		for i := range b {
			b[i] ^= 0xff
		}
	}
	for _, f := range fields(coord.PeerMsg{}) {
		m := newGen(7).peer(t, f)
		b := AppendPeer(nil, m)
		got, err := DecodePeer(b)
		if spoil(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("peer message %s changed with its input (%v)", f, err)
		}
	}
	for _, f := range fields(coord.Record{}) {
		r := newGen(7).record(t, f)
		b := AppendRecord(nil, r)
		got, err := DecodeRecord(b)
		if spoil(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("record %s changed with its input (%v)", f, err)
		}
	}
	for _, f := range fields(ClientMsg{}) {
		if f == "Submit" {
			continue // documented: its body is part of the input
		}
		m := newGen(7).client(t, f)
		b := AppendClient(nil, m)
		got, err := DecodeClient(b)
		if spoil(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("client message %s changed with its input (%v)", f, err)
		}
	}
}

func TestAMessageWithoutContentIsNotDecoded(t *testing.T) {
	if _, err := DecodePeer(AppendPeer(nil, &coord.PeerMsg{})); err == nil {
		t.Error("an empty peer message")
	}
	if _, err := DecodeRecord(AppendRecord(nil, &coord.Record{})); err == nil {
		t.Error("an empty record")
	}
	if _, err := DecodeClient(AppendClient(nil, &ClientMsg{})); err == nil {
		t.Error("an empty client message")
	}
}

// Any msgpack library can show what a box says: the formats are plain msgpack.
func TestOtherMsgpackReadersUnderstandTheFormats(t *testing.T) {
	read := func(name string, b []byte) {
		d := msgpack.NewDecoder(bytes.NewReader(b))
		v, err := d.DecodeInterface()
		if _, array := v.([]any); err != nil || !array {
			t.Errorf("%s: %v, %v", name, v, err)
		}
		if _, err := d.DecodeInterface(); err == nil {
			t.Errorf("%s: more than one value", name)
		}
	}
	for _, f := range fields(coord.PeerMsg{}) {
		if b := AppendPeer(nil, newGen(3).peer(t, f)); b[0] == flagRaw {
			read(f, b[1:])
		}
	}
	for _, f := range fields(ClientMsg{}) {
		read(f, AppendClient(nil, newGen(3).client(t, f)))
	}
	read("body", NewBodyEncoder().frame(newGen(3).columns(50)))
}
