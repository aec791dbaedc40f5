package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// visitor is a connection from an address of the loopback network, which is its own source.
type visitor struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func visit(t *testing.T, url, from string) *visitor {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp4", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &visitor{c, t, bufio.NewReader(c)}
}

func (v *visitor) say(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v, text); err != nil {
		v.t.Fatal(err)
	}
}

// asks sends a whole request and gives the status of the answer, which it reads whole.
func (v *visitor) asks(path string) (int, error) {
	if _, err := fmt.Fprintf(v, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// follows opens a page's stream and leaves it open.
func (v *visitor) follows() {
	v.t.Helper()
	v.say("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if line, err := v.r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		v.t.Fatalf("%q %v", line, err)
	}
}

// cutOff says whether the box has ended the connection, after what there was to read.
func (v *visitor) cutOff() bool {
	v.t.Helper()
	if err := v.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		v.t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, v.r)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// promptly is far below what the box gives who says nothing (readHeaderTimeMax), and more than any answer takes.
const promptly = readHeaderTimeMax / 2

// Whoever holds all places from two sources, in whatever way that keeps the box waiting, does not keep others from being answered at once, until
// these have all places.
func TestWhoKeepsTheBoxWaitingStandsInNobodyElsesWay(t *testing.T) {
	const places = 8
	const post = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\nExpect: 100-continue\r\n\r\n"
	promised := func(v *visitor) {
		v.say(post)
		if line, err := v.r.ReadString('\n'); err != nil || !strings.Contains(line, "100") { // the box waits for the body
			v.t.Fatalf("%q %v", line, err)
		}
	}
	for name, hold := range map[string]func(v *visitor){
		"silent":          func(*visitor) {},
		"half a header":   func(v *visitor) { v.say("GET / HTTP/1.1\r\nHost: local") },
		"a promised body": promised,
		"half a body": func(v *visitor) {
			promised(v)
			v.say("name=a")
		},
		"nothing to add": func(v *visitor) { _, _ = v.asks("/healthz") },
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, newConsole(t, servingSite()), places)
			for i := range places {
				hold(visit(t, url, fmt.Sprintf("127.0.0.%d", 2+i%2)))
			}
			for i := range places {
				began := time.Now()
				visit(t, url, "127.0.0.9").follows()
				if took := time.Since(began); took > promptly {
					t.Fatalf("newcomer %d waited for %v", i, took)
				}
			}
		})
	}
}

func TestWhoTakesNoAnswerLeavesThePlaceToTheNext(t *testing.T) {
	d := newDoor(1)
	here, there := net.Pipe()
	defer here.Close()
	slow, ok := d.enter(there, nil)
	if !ok {
		t.Fatal("no place")
	}
	d.state(slow, http.StateActive)
	written := make(chan error, 1)
	go func() {
		_, err := slow.Write([]byte("an answer"))
		written <- err
	}()
	other, far := net.Pipe()
	defer other.Close()
	next, ok := d.enter(far, nil)
	if !ok {
		t.Fatal("the next was turned away")
	}
	if err := <-written; err == nil {
		t.Error("nobody read the answer, and it was written")
	}
	// Who takes an answer is served on.
	d.state(next, http.StateActive)
	go func() { _, _ = io.ReadFull(other, make([]byte, 9)) }()
	if _, err := next.Write([]byte("an answer")); err != nil {
		t.Error(err)
	}
	if d.showOut() {
		t.Error("the box works for the only guest, and showed it out")
	}
}

func TestTheSourceWithTheMostConnectionsLosesTheOldestOfThem(t *testing.T) {
	const places = 6
	url, _ := serve(t, newConsole(t, servingSite()), places)
	lone := visit(t, url, "127.0.0.2") // the oldest of all
	var crowd []*visitor
	for range places - 1 {
		crowd = append(crowd, visit(t, url, "127.0.0.3"))
	}
	visit(t, url, "127.0.0.4").follows()
	visit(t, url, "127.0.0.5").follows()
	for i, v := range crowd {
		if got := v.cutOff(); got != (i < 2) {
			t.Errorf("connection %d of the crowd: cut off %v", i, got)
		}
	}
	if lone.cutOff() {
		t.Error("who had but one was cut off")
	}
}

func TestWhoFollowsAPageKeepsTheirPlaceAndTheNextWaitsUntilOneIsFree(t *testing.T) {
	url, _ := serve(t, newConsole(t, servingSite()), 2)
	a, b := visit(t, url, "127.0.0.2"), visit(t, url, "127.0.0.3")
	a.follows()
	b.follows()
	next := visit(t, url, "127.0.0.4")
	answered := make(chan error, 1)
	go func() {
		_, err := next.asks("/healthz")
		answered <- err
	}()
	for _, v := range []*visitor{a, b} { // they are told of changes yet
		if _, err := v.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-answered:
		t.Fatalf("there was a third place: %v", err)
	default:
	}
	_ = a.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if b.cutOff() {
		t.Error("who follows a page was cut off")
	}
}

func TestAWaitingNewcomerGetsThePlaceOfWhoHasNothingMoreToAsk(t *testing.T) {
	d := newDoor(1)
	here, there := net.Pipe()
	defer here.Close()
	busy, ok := d.enter(there, nil)
	if !ok {
		t.Fatal("no place")
	}
	d.state(busy, http.StateActive)
	entered := make(chan bool, 1)
	closed := make(chan struct{})
	other, far := net.Pipe()
	defer other.Close()
	go func() {
		_, ok := d.enter(far, closed)
		entered <- ok
	}()
	d.state(busy, http.StateIdle)
	if !<-entered {
		t.Error("the newcomer was turned away")
	}
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle one: %v", err)
	}
	if err := busy.Close(); err != nil || len(d.places) != 1 {
		t.Errorf("%v, %d places are taken", err, len(d.places))
	}
	third, end := net.Pipe()
	defer third.Close()
	for g := range d.waiting {
		d.hears(d.waiting[g][0])
	}
	close(closed)
	if _, ok := d.enter(end, closed); ok {
		t.Error("a door that is closed lets somebody in")
	}
}
