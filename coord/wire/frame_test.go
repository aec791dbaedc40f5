package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/holdfast-edge/holdfast/coord"
)

func TestFramesArriveWholeAndInOrderHoweverTheStreamIsCut(t *testing.T) {
	var stream []byte
	var want [][]byte
	for i, n := range []int{0, 1, 5, readBytes - frameHeadBytes - 1, readBytes - frameHeadBytes, readBytes, 3, keepBytes + 1, coord.FrameBytesMax, 2} {
		b := newGen(uint64(i)).bytes(n)
		want = append(want, b)
		var err error
		if stream, err = AppendFrame(stream, b); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]io.Reader{
		"whole":      bytes.NewReader(stream),
		"halves":     iotest.HalfReader(bytes.NewReader(stream)),
		"single":     iotest.OneByteReader(bytes.NewReader(stream)),
		"with error": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFrameReader(r)
			for i, w := range want {
				if b, err := f.Next(coord.FrameBytesMax); err != nil || !bytes.Equal(b, w) {
					t.Fatalf("frame %d of %d bytes: got %d, %v", i, len(w), len(b), err)
				}
			}
			if _, err := f.Next(coord.FrameBytesMax); err != io.EOF {
				t.Fatalf("after the last frame: %v", err)
			}
		})
	}
}

func TestAFrameIsRefusedByItsLengthAlone(t *testing.T) {
	for _, x := range []struct {
		length uint32
		most   int
	}{
		{1 << 31, coord.FrameBytesMax},
		{1<<32 - 1, coord.FrameBytesMax},
		{coord.FrameBytesMax + 1, coord.FrameBytesMax},
		{coord.FrameBytesMax + 1, 1 << 40},
		{HelloBytesMax + 1, HelloBytesMax},
		{1, 0},
	} {
		// The reader must not ask for the content: there is none.
		r := io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32(nil, x.length)), iotest.ErrReader(errors.New("read on")))
		if _, err := NewFrameReader(r).Next(x.most); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes where %d can be: %v", x.length, x.most, err)
		}
	}
}

// A client that announces 4 MiB and sends 10 bytes costs little.
func TestMemoryFollowsWhatArrivesNotWhatIsAnnounced(t *testing.T) {
	stream := append(binary.BigEndian.AppendUint32(nil, coord.FrameBytesMax), make([]byte, 10)...)
	got := allocated(func() {
		if _, err := NewFrameReader(bytes.NewReader(stream)).Next(coord.FrameBytesMax); err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
	})
	if got > readBytes+keepBytes+16<<10 {
		t.Errorf("%d bytes allocated", got)
	}
}

func TestAStreamCutWithinAFrameIsNotAnEnd(t *testing.T) {
	stream, err := AppendFrame(nil, newGen(1).bytes(2*readBytes))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3, 4, 5, readBytes, len(stream) - 1} {
		if _, err := NewFrameReader(bytes.NewReader(stream[:n])).Next(coord.FrameBytesMax); err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, err := NewFrameReader(bytes.NewReader(nil)).Next(1); err != io.EOF {
		t.Errorf("an empty stream: %v", err)
	}
}

func TestWhatIsTooLongForAFrameIsNotWritten(t *testing.T) {
	before := []byte("before")
	if b, err := AppendFrame(before, make([]byte, coord.FrameBytesMax+1)); !errors.Is(err, ErrFrame) || string(b) != "before" {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	a := &Answer{Results: make([]coord.Result, 9)}
	for i := range a.Results {
		a.Results[i].Value = make([]byte, coord.ValueBytesMax)
	}
	if b, err := AppendClientFrame(before, &ClientMsg{Answer: a}); !errors.Is(err, ErrFrame) || string(b) != "before" {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

func TestAFramedClientMessageComesBack(t *testing.T) {
	for _, f := range fields(ClientMsg{}) {
		m := newGen(5).client(t, f)
		b, err := AppendClientFrame(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := NewFrameReader(bytes.NewReader(b)).Next(coord.FrameBytesMax)
		if err != nil || !bytes.Equal(got, AppendClient(nil, m)) {
			t.Errorf("%s: %v", f, err)
		}
		if f == "Hello" && len(got) > HelloBytesMax {
			t.Errorf("a hello of %d bytes, beyond HelloBytesMax", len(got))
		}
	}
}

func TestAWarmReaderAllocatesNothing(t *testing.T) {
	one, err := AppendFrame(nil, make([]byte, 500))
	if err != nil {
		t.Fatal(err)
	}
	r := NewFrameReader(bytes.NewReader(bytes.Repeat(one, 200)))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Next(500); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}
