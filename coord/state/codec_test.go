package state

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
)

func fullMeta() *meta {
	return &meta{
		height: 300, revision: 7, keys: 2, keyBytes: 99, total: 1 << 40, distinct: 5, checkpoint: 256, checkpointBytes: 1 << 23, logBytes: 12345, asked: true,
		compact: 6, cleaned: 3, histBytes: 1 << 20, clock: 77, voted: []coord.BoxID{boxA, boxB},
	}
}

// sample values, one with everything and one with nothing of each format.
func samples() map[string][]byte {
	full := &session{name: []byte("shop"), opened: 3, used: 900, seen: seqSet{floor: 70}}
	for i := uint64(1); i <= 70; i++ {
		full.remember(ack{i, 1000 + i, i%3 == 0})
	}
	for _, n := range []uint64{72, 73, 90, 400} {
		full.seen.add(n, sessionSpansMax)
	}
	full.remember(ack{90, 1071, true})
	full.remember(ack{72, 1071, false})
	return map[string][]byte{
		"meta":          appendMeta(nil, fullMeta()),
		"meta of none":  appendMeta(nil, &meta{revision: 1}),
		"key":           appendRecord(nil, &record{create: 2, mod: 300, version: 4, lease: -3}, []byte("value")),
		"counter":       appendCounter(nil, 1<<63),
		"box":           appendBox(nil, &seqSet{floor: 1 << 20, spans: []span{{1<<20 + 2, 1<<20 + 5}, {1<<20 + 9, 1<<20 + 9}}, above: 5}),
		"box of none":   appendBox(nil, &seqSet{}),
		"session":       appendSession(nil, full),
		"session, new":  appendSession(nil, &session{opened: 1, used: 1}),
		"lease":         appendLease(nil, &lease{ttl: 30, expires: 400}),
		"revision":      append([]byte{format}, appendStored(appendStored(nil, 7, &storedEvent{rev: 7, key: []byte("a"), now: []byte("now"), prev: 4, prevBytes: 30}), 7, &storedEvent{rev: 9, key: []byte("b"), gone: true, before: []byte("then")})...),
		"document":      appendDoc(nil, &coord.Doc{Version: 300, Ends: 90, Value: []byte("{}")}),
		"proposal":      appendOpen(nil, 2, 86401, someDecision()),
		"words":         appendWords(nil, []coord.BoxID{boxA}, []coord.BoxID{{1}, boxB}),
		"outcome":       appendDecided(nil, someOutcome()),
		"a later state": {format + 1, 1, 2, 3},
	}
}

func someDecision() *coord.Decision {
	return &coord.Decision{
		Kind: "role.set", Subject: "s", Principal: "p", Reason: "r", Seconds: 60, Nonce: 1,
		Writes: []coord.DocWrite{{Key: "role/a", Was: 1, Value: []byte("v")}}, Authority: []byte("a"),
	}
}

func someOutcome() *Decided {
	return &Decided{
		ID: coord.Digest{31: 7}, By: boxA, Outcome: Refused, Height: 9, Second: 60, free: 121, Kind: "a.b", Subject: "s", Principal: "p",
		Yes: []coord.BoxID{boxA}, No: []coord.BoxID{boxB},
	}
}

// again decodes a value as each format in turn and encodes what it got.
func again(b []byte) (out [][]byte) {
	if m, err := decodeMeta(b); err == nil {
		out = append(out, appendMeta(nil, &m))
	}
	if rec, err := decodeRecord(b); err == nil {
		out = append(out, appendRecord(nil, &rec, rec.value(b)))
	}
	if l, err := decodeLease(b); err == nil {
		out = append(out, appendLease(nil, l))
	}
	events, last := []byte{format}, uint64(7)
	if err := eachStored(7, b, func(e *storedEvent) bool { events, last = appendStored(events, last, e), e.rev; return true }); err == nil {
		out = append(out, events)
	}
	if d, err := decodeDoc(b); err == nil {
		out = append(out, appendDoc(nil, d))
	}
	if place, ends, d, err := decodeOpen(b); err == nil {
		out = append(out, appendOpen(nil, place, ends, d))
	}
	if yes, no, err := decodeWords(b); err == nil {
		out = append(out, appendWords(nil, yes, no))
	}
	if d, err := decodeDecided(b); err == nil {
		out = append(out, appendDecided(nil, d))
	}
	if n, err := decodeCounter(b); err == nil {
		out = append(out, appendCounter(nil, n))
	}
	if s, err := decodeBox(b); err == nil {
		out = append(out, appendBox(nil, &s))
	}
	if s, err := decodeSession(b); err == nil {
		out = append(out, appendSession(nil, s))
	}
	return out
}

func TestStoredValuesReadBackAsTheyWere(t *testing.T) {
	for name, b := range samples() {
		got := again(b)
		if name == "a later state" {
			if len(got) != 0 {
				t.Errorf("%s was read", name)
			}
			continue
		}
		if len(got) == 0 {
			t.Errorf("%s cannot be read", name)
		}
		for _, g := range got {
			if !bytes.Equal(g, b) {
				t.Errorf("%s: %x became %x", name, b, g)
			}
		}
	}
}

// The bytes of docs/state.md.
func TestStoredValuesAreAsDocumented(t *testing.T) {
	s := &session{opened: 3, used: 9, name: []byte("shop"), seen: seqSet{floor: 6}}
	s.seen.add(8, sessionSpansMax)
	s.remember(ack{5, 20, false})
	s.remember(ack{6, 21, true})
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"meta": {appendMeta(nil, &meta{
			height: 9, revision: 21, keys: 1, keyBytes: 12, total: 7, distinct: 2, checkpoint: 4, checkpointBytes: 100, logBytes: 300,
			compact: 6, cleaned: 5, histBytes: 80, clock: 60,
		}), "01 09 15 01 0c 07 02 04 64 ac02 00 06 05 50 3c 00"},
		"key":      {appendRecord(nil, &record{create: 20, mod: 21, version: 2, lease: 7}, []byte("v")), "01 14 15 02 07 76"},
		"lease":    {appendLease(nil, &lease{ttl: 30, expires: 91}), "01 1e 5b"},
		"revision": {append([]byte{format}, appendStored(nil, 30, &storedEvent{rev: 31, key: []byte("k"), gone: true, before: []byte{format, 20}})...), "01 01 15 6b 02 01 14"},
		"counter":  {appendCounter(nil, 300), "01 ac02"},
		"box":      {appendBox(nil, &seqSet{floor: 4, spans: []span{{6, 7}}, above: 2}), "01 04 01 00 01"},
		"session":  {appendSession(nil, s), "01 03 09 04 73686f70 06 01 00 00 02 0a 28 02 03"},
		"document": {appendDoc(nil, &coord.Doc{Version: 300, Ends: 90, Value: []byte("v")}), "01 ac02 5a 76"},
		"proposal": {appendOpen(nil, 0, 61, someDecision()), "01 00 3d" +
			"01 08 726f6c652e736574 01 73 01 70 01 72 3c 0000000000000001 00 00 01 06 726f6c652f61 01 00 02 76 01 61"},
		"words": {appendWords(nil, []coord.BoxID{boxA}, nil), "01 01 0a00000000000000 00"},
		"outcome": {appendDecided(nil, someOutcome()), "01 02" +
			"0000000000000000000000000000000000000000000000000000000000000007 0a00000000000000" +
			"09 3c 79 03 612e62 01 73 01 70 01 0a00000000000000 01 0b00000000000000"},
	} {
		want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.want), []byte(" "), nil)))
		if err != nil || !bytes.Equal(c.got, want) {
			t.Errorf("%s is % x, want % x (%v)", name, c.got, want, err)
		}
	}
}

func TestATruncatedValueIsDamaged(t *testing.T) {
	for name, b := range samples() {
		if name == "key" || name == "document" {
			continue // ends with its value, of any length
		}
		for n := range len(b) {
			for _, g := range again(b[:n]) {
				if !bytes.Equal(g, b[:n]) { // read as another format, perhaps, but exactly
					t.Errorf("%s cut to %d bytes was read as something else", name, n)
				}
			}
		}
	}
}

// No stored bytes crash a decoder, and what is accepted has this one encoding.
func FuzzStoredValues(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, g := range again(b) {
			if !bytes.Equal(g, b) {
				t.Fatalf("%x became %x", b, g)
			}
		}
	})
}
