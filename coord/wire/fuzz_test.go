package wire

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/golang/snappy"

	"github.com/holdfast-edge/holdfast/coord"
)

func seed(f *testing.F, name string) {
	for _, b := range samples(f)[name] {
		f.Add(b)
	}
}

// What decodes is within all limits, and encodes to a body that decodes to the same messages.
func FuzzBody(f *testing.F) {
	seed(f, "body")
	enc, dec := NewBodyEncoder(), NewBodyDecoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		got, again := new(coord.Columns), new(coord.Columns)
		if err := dec.DecodeBody(b, got); err != nil {
			if got.Len() != 0 || got.Bytes() != 0 {
				t.Fatal("an error left messages behind")
			}
			return
		}
		if err := CheckColumns(got); err != nil {
			t.Fatal(err)
		}
		if err := dec.DecodeBody(enc.AppendBody(nil, got), again); err != nil {
			t.Fatal(err)
		}
		if err := sameColumns(again, got); err != nil {
			t.Fatal(err)
		}
	})
}

// The fuzzer seldom makes good snappy: here it makes what is inside.
func FuzzBodyInsideSnappy(f *testing.F) {
	for _, b := range samples(f)["body"] {
		if raw, err := unsqueeze(nil, b, coord.BatchBodyBytesMax); err == nil {
			f.Add(raw)
		}
	}
	dec := NewBodyDecoder()
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, packed := new(coord.Columns), new(coord.Columns)
		errA := dec.DecodeBody(append([]byte{flagRaw}, raw...), plain)
		errB := dec.DecodeBody(append([]byte{flagSnappy}, snappy.Encode(nil, raw)...), packed)
		if len(raw) > 0 && len(raw) <= coord.BatchBodyBytesMax && (errA == nil) != (errB == nil) {
			t.Fatalf("compression changes the outcome: %v, %v", errA, errB)
		}
		if err := sameColumns(plain, packed); err != nil {
			t.Fatal(err)
		}
	})
}

// What decodes encodes to the same bytes, unless it is of a kind that may be compressed.
func FuzzPeer(f *testing.F) {
	seed(f, "peer")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodePeer(b)
		if err != nil {
			return
		}
		set := 0
		for _, f := range fields(*m) {
			if !reflect.ValueOf(*m).FieldByName(f).IsNil() {
				set++
			}
		}
		if set != 1 {
			t.Fatalf("%d fields are set: %+v", set, m)
		}
		again := AppendPeer(nil, m)
		if b[0] == flagRaw && again[0] == flagRaw && !bytes.Equal(again, b) {
			t.Fatalf("% x\nencodes to\n% x", b, again)
		}
		n, err := DecodePeer(again)
		if err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("decoded again: %+v, %v, first: %+v", n, err, m)
		}
	})
}

func FuzzRecord(f *testing.F) {
	seed(f, "record")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again := AppendRecord(nil, r)
		if b[2] == recordSilent { // what older releases wrote is read and not written
			if n, err := DecodeRecord(again); err != nil || !reflect.DeepEqual(r, n) {
				t.Fatalf("% x decodes, and encodes to % x: %+v, %v", b, again, n, err)
			}
		} else if !bytes.Equal(again, b) {
			t.Fatalf("% x decodes, and encodes to other bytes", b)
		}
	})
}

func FuzzStored(f *testing.F) {
	seed(f, "final")
	seed(f, "checkpoint")
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := DecodeFinal(b); err == nil && !bytes.Equal(AppendFinal(nil, v), b) {
			t.Fatalf("% x decodes, and encodes to other bytes", b)
		}
		if v, err := DecodeCheckpoint(b); err == nil && !bytes.Equal(AppendCheckpoint(nil, v), b) {
			t.Fatalf("% x decodes, and encodes to other bytes", b)
		}
	})
}

// Results have columns with more than one form; all else encodes to the same bytes.
func FuzzClient(f *testing.F) {
	seed(f, "client")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeClient(b)
		if err != nil {
			return
		}
		again := AppendClient(nil, m)
		if m.Answer == nil && !bytes.Equal(again, b) {
			t.Fatalf("% x\nencodes to\n% x", b, again)
		}
		n, err := DecodeClient(again)
		if err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("decoded again: %+v, %v, first: %+v", n, err, m)
		}
	})
}

// A stream of frames gives what was framed, in order, and then an error; whatever the bytes.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'h', 'i', 0, 0, 0, 0, 0, 0, 0, 1}, uint16(10))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1}, uint16(5))
	f.Fuzz(func(t *testing.T, stream []byte, most uint16) {
		r := NewFrameReader(bytes.NewReader(stream))
		var again []byte
		for {
			b, err := r.Next(int(most))
			if err != nil {
				if err == io.EOF && !bytes.Equal(again, stream) {
					t.Fatal("the frames are not what the stream has")
				}
				break
			}
			if len(b) > int(most) {
				t.Fatalf("a frame of %d bytes where at most %d can be", len(b), most)
			}
			if again, err = AppendFrame(again, b); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatal("the frames are not what the stream began with")
		}
	})
}
