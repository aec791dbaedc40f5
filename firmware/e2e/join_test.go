package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/client"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/members"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// grown is a site that is founded and grows by tokens: each box is a process and a directory.
type grown struct {
	*liveSite
	dirs  []string
	boxes []*exec.Cmd // by number; nil: not started
}

func newGrown(t *testing.T, n int) *grown {
	t.Helper()
	g := &grown{liveSite: newSite(t), boxes: make([]*exec.Cmd, n)}
	for i := range n {
		dir := filepath.Join(t.TempDir(), "box-"+strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("data_dir = \".\"\nname = \"box-%d\"\n[peer]\nlisten = %q\n[client]\nlisten = %q\n[console]\nlisten = %q\n",
			i, g.at(20+i), g.at(40+10*i), g.at(i))
		if i == 0 {
			text += fmt.Sprintf("[join]\nlisten = %q\n", g.at(60+9))
		}
		if err := os.WriteFile(filepath.Join(dir, "holdfast.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.dirs = append(g.dirs, dir)
	}
	t.Cleanup(func() {
		for i := range g.boxes {
			g.kill(i)
		}
	})
	return g
}

func (g *grown) at(port int) string { return "127.0.0.1:" + strconv.Itoa(g.base+port) }

func (g *grown) config(i int) string { return filepath.Join(g.dirs[i], "holdfast.toml") }

func (g *grown) socket(i int) string { return "unix://" + filepath.Join(g.dirs[i], "holdfast.sock") }

func (g *grown) startBox(i int) {
	g.t.Helper()
	cmd := exec.Command(g.program, "run", "--config", g.config(i))
	cmd.Stdout, cmd.Stderr = g.log, g.log
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.boxes[i] = cmd
}

func (g *grown) kill(i int) {
	if b := g.boxes[i]; b != nil {
		_ = b.Process.Kill()
		_ = b.Wait()
		g.boxes[i] = nil
	}
}

// token makes a join token at box 0.
func (g *grown) token(flags ...string) string {
	g.t.Helper()
	out, err := g.run(append([]string{"site", "join-token", "--json", "--addr", g.socket(0)}, flags...)...)
	if err != nil {
		g.t.Fatal(err)
	}
	var o struct {
		Token string
		Done  bool
	}
	if err := json.Unmarshal(out, &o); err != nil || !o.Done {
		g.t.Fatalf("%s: %v", out, err)
	}
	return o.Token
}

func (g *grown) join(i int, token string, flags ...string) ([]byte, error) {
	return g.run(append([]string{"site", "join", token, "--server", g.at(69), "--config", g.config(i), "--json", "--timeout", "60s"}, flags...)...)
}

// awaitBoxes waits until box i sees n boxes, all of them up.
func (g *grown) awaitBoxes(i, n int) {
	g.t.Helper()
	g.await(fmt.Sprintf("box %d sees %d boxes", i, n), func() error {
		b, err := remote.New(g.socket(i))
		if err != nil {
			return err
		}
		defer b.Close()
		o, err := b.Site(g.t.Context())
		if err == nil && (len(o.Members) != n || o.Up != n) {
			err = fmt.Errorf("%d boxes, %d up, in epoch %d", len(o.Members), o.Up, o.Epoch)
		}
		return err
	})
}

// putter puts numbers to a key, one after the other, and remembers the last that was acknowledged.
type putter struct {
	acked   atomic.Int64
	longest atomic.Int64 // nanoseconds between two acknowledgements
	stop    context.CancelFunc
	done    sync.WaitGroup
	err     error
}

func (g *grown) write() *putter {
	g.t.Helper()
	m, err := trust.LoadMembers(g.dirs[0])
	if err != nil {
		g.t.Fatal(err)
	}
	w := new(putter)
	ctx, stop := context.WithCancel(g.t.Context())
	w.stop = stop
	c, err := client.Dial(ctx, client.Config{Endpoints: []client.Endpoint{{Network: "tcp", Address: m.List[0].Native, Box: m.List[0].ID}}, Name: "writer"})
	if err != nil {
		g.t.Fatal(err)
	}
	w.done.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			began := time.Now()
			if _, err := c.Put(ctx, []byte("/n"), []byte(strconv.FormatInt(n, 10))); err != nil {
				if ctx.Err() == nil {
					w.err = err
				}
				return
			}
			w.acked.Store(n)
			w.longest.Store(max(w.longest.Load(), int64(time.Since(began))))
		}
	})
	g.t.Cleanup(w.end)
	return w
}

func (w *putter) end() { w.stop(); w.done.Wait() }

// A site of one box is founded and grows to four by tokens, while a client writes and while strangers flood the joining port; every
// token is good once, and what is refused is refused for its reason.
func TestASiteIsFoundedAndGrowsByTokensUnderLoadAndAFlood(t *testing.T) {
	g := newGrown(t, 6)
	if _, err := g.run("site", "init", "--config", g.config(0), "--json"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.run("site", "init", "--config", g.config(0)); err == nil || !strings.Contains(err.Error(), "in a site already") {
		t.Fatalf("founded twice: %v", err)
	}
	g.startBox(0)
	g.awaitBoxes(0, 1)
	short := g.token("--ttl", "10s") // the shortest that can be
	tokens := []string{g.token(), g.token(), g.token("--name", "box-3"), g.token("--ttl", "1h"), g.token()}
	w := g.write()

	// By hand: the box is started when it is in.
	began := time.Now()
	if _, err := g.join(1, tokens[0]); err != nil {
		t.Fatal(err)
	}
	t.Logf("box-1 is in after %v, with a puzzle of 20 bits", time.Since(began).Round(time.Millisecond))
	g.startBox(1)
	g.awaitBoxes(0, 2)
	if out, err := g.join(4, tokens[0]); err == nil || !strings.Contains(err.Error(), "token is used") {
		t.Errorf("a used token: %s, %v", out, err)
	}
	// By its configuration: a box that waits joins by itself.
	if err := os.WriteFile(filepath.Join(g.dirs[2], "token"), []byte(tokens[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(g.config(2))
	if err == nil {
		err = os.WriteFile(g.config(2), fmt.Appendf(text, "[join]\ntoken_file = \"token\"\nservers = [%q]\n", g.at(69)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.startBox(2)
	g.awaitBoxes(0, 3)
	if out, err := g.join(4, tokens[2]); err == nil || !strings.Contains(err.Error(), "name cannot be used") {
		t.Errorf("a token for another name: %s, %v", out, err)
	}
	// A box that runs already and waits, through a flood.
	g.startBox(3)
	stop := flood(t, g.at(69))
	began = time.Now()
	if _, err := g.join(3, tokens[2]); err != nil {
		t.Fatal(err)
	}
	t.Logf("box-3 is in after %v, through a flood of %d connections", time.Since(began).Round(time.Millisecond), stop())
	for i := range 4 {
		g.awaitBoxes(i, 4)
	}

	// Refusals, each for its reason.
	other := newGrown(t, 1)
	if _, err := other.run("site", "init", "--config", other.config(0)); err != nil {
		t.Fatal(err)
	}
	if out, err := g.join(4, strings.Replace(tokens[3], tokens[3][3:19], "0123456789abcdef", 1)); err == nil || !strings.Contains(err.Error(), "another site's token") {
		t.Errorf("another site's token: %s, %v", out, err)
	}
	if out, err := g.join(4, tokens[4], "--peer", g.at(7)); err == nil || !strings.Contains(err.Error(), "not reached") {
		t.Errorf("an address where it is not: %s, %v", out, err)
	}
	g.await("the token's time is over", func() error {
		b, err := remote.New(g.socket(0))
		if err != nil {
			return err
		}
		defer b.Close()
		o, err := b.Site(t.Context())
		if err != nil {
			return err
		}
		return expired(o, short)
	})
	if out, err := g.join(4, short); err == nil || !strings.Contains(err.Error(), "token has expired") {
		t.Errorf("an expired token: %s, %v", out, err)
	}
	out, err := g.run("audit", "list", "--action", "join.ask", "--addr", g.socket(0))
	for _, want := range []string{"allowed", "used-token", "bad-name", "not-reached", "expired-token", "wrong-site"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("the audit log has no %q: %v\n%s", want, err, out)
		}
	}
	w.end()
	if w.err != nil || w.acked.Load() == 0 {
		t.Fatalf("the client: %d acknowledged, %v", w.acked.Load(), w.err)
	}
	for i := range 4 {
		g.await(fmt.Sprintf("box %d has what was written", i), func() error {
			out, err := g.run("kv", "get", "/n", "--addr", g.socket(i))
			if n, _ := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64); err == nil && n < w.acked.Load() {
				err = fmt.Errorf("%d, and %d was acknowledged", n, w.acked.Load())
			}
			return err
		})
	}
	t.Logf("%d writes acknowledged, the longest took %v", w.acked.Load(), time.Duration(w.longest.Load()).Round(time.Millisecond))
}

// expired is nil when a token's time is over.
func expired(o *members.Overview, token string) error {
	for i := range o.Tokens {
		if d := &o.Tokens[i]; strings.Contains(token, d.ID.String()) && d.NotAfter >= o.Seconds {
			return fmt.Errorf("%d s left", d.NotAfter-o.Seconds)
		}
	}
	return nil
}

// flood connects from other addresses as fast as it can, and says nothing, asks, or brings rubbish, until stop.
func flood(t *testing.T, at string) (stop func() uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var made atomic.Uint64
	for i := range 4 {
		all.Go(func() {
			var held []net.Conn
			defer func() {
				for _, c := range held {
					_ = c.Close()
				}
			}()
			for n := 0; ctx.Err() == nil; n++ {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i), byte(1+n%250))}, Timeout: time.Second}
				c, err := d.DialContext(ctx, "tcp", at)
				if err != nil {
					continue
				}
				made.Add(1)
				switch n % 3 {
				case 0:
					_, err = c.Write([]byte("HFJOIN1?"))
				case 1:
					_, err = c.Write([]byte("HFJOIN1!" + strings.Repeat("x", 42)))
				}
				if n%3 != 2 || err != nil {
					_ = c.Close()
					continue
				}
				if held = append(held, c); len(held) > 100 { // says nothing, for a while
					_ = held[0].Close()
					held = held[1:]
				}
			}
		})
	}
	end := func() uint64 { cancel(); all.Wait(); return made.Load() }
	t.Cleanup(func() { end() })
	return end
}

// approve gives the words of boxes on the one decision of this kind that is open.
func (g *grown) approve(kind string, boxes ...int) {
	g.t.Helper()
	for _, i := range boxes {
		g.await(fmt.Sprintf("box %d approves a %s", i, kind), func() error {
			b, err := remote.New(g.socket(i))
			if err != nil {
				return err
			}
			defer b.Close()
			all, err := b.Decisions(g.t.Context())
			if err != nil {
				return err
			}
			for _, d := range all.Open {
				if d.Kind == kind {
					_, err := g.run("decision", "approve", d.ID.String(), "--addr", g.socket(i))
					return err
				}
			}
			return fmt.Errorf("none is open")
		})
	}
}

func (g *grown) site(i int) *members.Overview {
	g.t.Helper()
	b, err := remote.New(g.socket(i))
	if err != nil {
		g.t.Fatal(err)
	}
	defer b.Close()
	o, err := b.Site(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	return o
}

// A box gets a new key by itself, a lost box is replaced by one with a token that operators approved, and a box is removed: each with
// its arithmetic.
func TestTheBoxesOfASiteAreChangedFromTheCommandLine(t *testing.T) {
	began := time.Now()
	step := func(what string) {
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	g := newGrown(t, 5)
	step("built")
	if _, err := g.run("site", "init", "--config", g.config(0)); err != nil {
		t.Fatal(err)
	}
	g.startBox(0)
	g.awaitBoxes(0, 1)
	tokens := []string{g.token(), g.token(), g.token()}
	for i, token := range tokens {
		g.startBox(i + 1)
		if _, err := g.join(i+1, token); err != nil {
			t.Fatal(err)
		}
		g.awaitBoxes(0, i+2)
	}
	step("grown to four")
	was := g.site(0).Members[1].ID
	if out, err := g.run("site", "rotate-key", "--yes", "--addr", g.socket(1)); err != nil || !strings.Contains(string(out), "done: member.rotate") {
		t.Fatalf("%s, %v", out, err)
	}
	g.awaitBoxes(0, 4)
	if is := g.site(0).Members[1]; is.ID == was || is.Name != "box-1" {
		t.Fatalf("box-1 is %v still", is.ID)
	}
	g.awaitBoxes(1, 4)

	step("a key is changed")
	// Box 3 is lost. The token for its place takes more words than this box's.
	g.kill(3)
	out, err := g.run("site", "join-token", "--replace", "box-3", "--json", "--addr", g.socket(0))
	var o struct{ Token, Waits string }
	if err == nil {
		err = json.Unmarshal(out, &o)
	}
	if err != nil || o.Waits == "" {
		t.Fatalf("%s, %v", out, err)
	}
	g.approve("join.token", 1, 2)
	g.startBox(4)
	if out, err := g.join(4, o.Token, "--name", "box-3"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	for _, i := range []int{0, 1, 2, 4} {
		g.awaitBoxes(i, 4)
	}

	step("a box is replaced")
	if out, err := g.run("site", "remove", "box-2", "--yes", "--addr", g.socket(0)); err == nil || !strings.Contains(err.Error(), "now 4 boxes: f = 1, quorum 3; after: 3 boxes: f = 0, quorum 3: a single box that lies") || !strings.Contains(err.Error(), "refused unless --force") {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := g.run("site", "remove", "box-2", "--yes", "--force", "--addr", g.socket(0)); err != nil || !strings.Contains(string(out), "waits") {
		t.Fatalf("%s, %v", out, err)
	}
	g.approve("member.remove", 1, 4)
	for _, i := range []int{0, 1, 4} {
		g.awaitBoxes(i, 3)
	}
	step("a box is removed")
	if _, err := g.run("kv", "put", "/after", "all", "--addr", g.socket(4)); err != nil {
		t.Fatal(err)
	}
}
