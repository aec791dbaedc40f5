package supervise

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// stopped is a terminal that was told to stand still (XOFF).
type stopped struct{ asked chan struct{} }

func (s stopped) Write([]byte) (int, error) {
	s.asked <- struct{}{}
	select {}
}

func TestAConsoleThatStandsStillStopsNobody(t *testing.T) {
	c := new(console)
	s := stopped{make(chan struct{}, 1)}
	c.attach(s)
	c.print("first\n")
	<-s.asked
	line := bytes.Repeat([]byte("x"), 100)
	for range 10 * outMax / len(line) {
		if n, err := c.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	c.hush(true)
	c.hush(false)
	c.flush(time.Millisecond)
	if len(c.out) > outMax || c.dropped == 0 {
		t.Errorf("%d bytes wait, %d were dropped", len(c.out), c.dropped)
	}
	// Another one goes on, with a word about what is missing.
	r, w := io.Pipe()
	c.attach(w)
	var got []byte
	for b := make([]byte, pieceMax); !bytes.HasSuffix(got, []byte("later\n")); {
		n, err := r.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, b[:n]...); len(got) == pieceMax {
			c.print("later\n")
		}
	}
	if !strings.Contains(string(got), "the console is slow") {
		t.Errorf("%q", got[len(got)-100:])
	}
}

func TestAllThatIsWrittenIsOnTheConsoleInItsOrder(t *testing.T) {
	c := new(console)
	var want bytes.Buffer
	say := func(s string) { c.print(s); want.WriteString(s) }
	say("before there is a console\n")
	r, w := io.Pipe()
	c.attach(w)
	c.hush(true)
	if _, err := c.Write([]byte("kept back\n")); err != nil {
		t.Fatal(err)
	}
	say("the menu\n")
	c.hush(false)
	want.WriteString("kept back\n")
	for range 2000 {
		say("a line of the log\n")
	}
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%v: %.200q", err, got)
	}
	c.flush(time.Minute)
}
