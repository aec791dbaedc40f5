package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust"
	"github.com/holdfast-edge/holdfast/firmware/box"
	"github.com/holdfast-edge/holdfast/firmware/config"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

const annPassword = "a long pass phrase of ann"

// ownBox is the only box of a site, with the operator ann, that runs until the test ends.
type ownBox struct {
	t    *testing.T
	c    *config.Config
	file string // its configuration
}

func loopback(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newOwnBox makes a box without starting it.
func newOwnBox(t *testing.T) *ownBox {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "box")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := &ownBox{t: t, file: filepath.Join(root, "holdfast.toml")}
	text := "data_dir = " + quote(dir) + "\nname = \"alone\"\n[peer]\nlisten = " + quote(loopback(t)) + "\n[native]\nlisten = " + quote(loopback(t)) +
		"\n[console]\nlisten = " + quote(loopback(t)) + "\nview = \"open\"\n[client]\nlisten = \"\"\n[log]\nsegment_size = \"1MiB\"\nretain_size = \"4MiB\"\n"
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.c, err = config.Load(b.file); err != nil {
		t.Fatal(err)
	}
	id, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = trust.SaveMembers(dir, &coord.Members{Site: coord.SiteID{1}, Epoch: 1, List: []coord.Member{
		{ID: id.ID(), Name: "alone", Key: id.PublicKey(), Peer: b.c.Peer.Listen, Native: b.c.Native.Listen, Console: b.c.Console.Listen},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ann, err := operators.New("ann", annPassword, time.Now().Unix())
	if err != nil {
		t.Fatal(err)
	}
	value, err := ann.Encode()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, operators.FoundingFile), value, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// start runs the box and waits until it serves.
func (b *ownBox) start() *ownBox {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error // when it has ended
	go func() {
		defer close(ended)
		err = box.Run(ctx, box.Options{Config: b.c, Version: "v0.0.0-test", Logger: slog.New(slog.DiscardHandler)})
	}()
	b.t.Cleanup(func() { // before its directory is removed
		cancel()
		if <-ended; err != nil {
			b.t.Error(err)
		}
	})
	r, e := remote.New(b.socket())
	if e != nil {
		b.t.Fatal(e)
	}
	defer r.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.Ready(b.t.Context()) != nil {
		select {
		case <-ended:
			b.t.Fatalf("the box ended: %v", err)
		case <-tick.C:
		}
	}
	return b
}

func (b *ownBox) socket() string { return "unix://" + b.c.Console.Socket }

// here runs a command at the box's socket, far one at its console over the network.
func (b *ownBox) here(want int, says string, args ...string) string {
	b.t.Helper()
	return b.at(b.socket(), "", want, says, args...)
}

func (b *ownBox) far(want int, says string, args ...string) string {
	b.t.Helper()
	return b.at("http://"+b.c.Console.Listen, "", want, says, args...)
}

func (b *ownBox) at(addr, stdin string, want int, says string, args ...string) string {
	b.t.Helper()
	code, text := said(b.t, stdin, append(args, "--addr", addr)...)
	if code != want || !strings.Contains(text, says) {
		b.t.Fatalf("%q: %d, %s; want %d, %q", args, code, text, want, says)
	}
	return strings.TrimSpace(text)
}

// issue has ann issue a token.
func (b *ownBox) issue(args ...string) string {
	b.t.Helper()
	text := b.at(b.socket(), annPassword+"\n", exitDone, "hf1.", append([]string{"token", "issue", "--operator", "ann"}, args...)...)
	token, _, _ := strings.Cut(text[strings.Index(text, "hf1."):], "\n")
	return token
}

func TestWhoStandsAtTheBoxNeedsNoTokenOnAClosedSite(t *testing.T) {
	b := newOwnBox(t).start()
	t.Setenv(remote.TokenEnv, "")
	b.here(exitDone, "open (as it ships)", "setting", "list")
	b.here(exitFailed, "client is as it ships: open", "setting", "remove", "client")
	b.here(exitFailed, `"nosuch" is none of`, "setting", "put", "nosuch", `{"access":"token"}`)
	b.here(exitDone, "no decision is open", "decision", "list")
	b.here(exitDone, "done", "setting", "put", "client", `{"access":"token"}`)
	b.here(exitDone, `"value":"token","set":true`, "setting", "list", "--json")
	b.here(exitDone, "revision", "kv", "put", "/a", "1")
	b.here(exitDone, "1", "kv", "get", "/a")

	began := time.Now()
	b.far(exitFailed, "denied", "kv", "put", "/a", "2")
	b.far(exitFailed, "unix:///PATH/holdfast.sock", "kv", "get", "/a")
	t.Setenv(remote.TokenEnv, "hf1.AAAA")
	b.far(exitFailed, "malformed token", "kv", "get", "/a")
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("the refusals took %v", d)
	}
	if text := b.here(exitDone, "", "kv", "del", "/a"); text != "removed" {
		t.Errorf("%q, whatever token is there", text)
	}
}

func TestAHoldersKeyProvesItselfOnEveryPort(t *testing.T) {
	b := newOwnBox(t).start()
	key := filepath.Join(t.TempDir(), "holder.key")
	code, public := said(t, "", "token", "keygen", key)
	if code != exitDone {
		t.Fatal(public)
	}
	b.here(exitDone, "done", "setting", "put", "client", `{"access":"token"}`)
	token := b.issue("--holder", strings.TrimSpace(public), "--actions", "kv.*,console.view,role.*", "--resources", "*")

	t.Setenv(remote.TokenEnv, token)
	began := time.Now()
	b.far(exitFailed, remote.TokenKeyEnv, "kv", "put", "/a", "1")
	b.far(exitFailed, remote.TokenKeyEnv, "status")
	other := filepath.Join(t.TempDir(), "other.key")
	if code, text := said(t, "", "token", "keygen", other); code != exitDone {
		t.Fatal(text)
	}
	t.Setenv(remote.TokenKeyEnv, other)
	b.far(exitFailed, "another key than the token's holder has", "kv", "put", "/a", "1")
	if d := time.Since(began); d > time.Second {
		t.Errorf("refusing what no box would take took %v", d)
	}
	t.Setenv(remote.TokenKeyEnv, key)
	b.far(exitDone, "revision", "kv", "put", "/a", "1")
	b.far(exitDone, "1", "kv", "get", "/a")
	b.far(exitDone, "alone", "status")
	b.far(exitDone, "done", "role", "grant", "program:cache", "program")

	// A proof that somebody made is good once.
	code, proof := said(t, "", "token", "prove", token, "--key", key)
	if code != exitDone {
		t.Fatal(proof)
	}
	t.Setenv(remote.TokenKeyEnv, "")
	t.Setenv(remote.TokenEnv, token+" "+strings.TrimSpace(proof))
	b.far(exitDone, "1", "kv", "get", "/a")
	b.far(exitFailed, "proof was used before", "kv", "get", "/a")
}

func TestTokensThatABoxIssuedAreListedAndRecorded(t *testing.T) {
	b := newOwnBox(t).start()
	b.at(b.socket(), annPassword+"\n", exitUsage, "a token is good for 8760h0m0s at most", "token", "issue", "--operator", "ann", "--actions", "kv.get", "--resources", "*", "--ttl", "9000h")
	token := b.issue("--actions", "kv.get", "--resources", "key:cache/*", "--ttl", "48h")
	code, text := said(t, "", "token", "inspect", token, "--json")
	var info struct{ ID string }
	if err := json.Unmarshal([]byte(text), &info); err != nil || code != exitDone {
		t.Fatal(text)
	}
	list := b.here(exitDone, "token:"+info.ID, "audit", "list", "--action", "token.issue")
	for _, want := range []string{"kv.get on key:cache/*", "signed by operator:ann until 20", "holder whoever has its text"} {
		if !strings.Contains(list, want) {
			t.Errorf("the audit log does not say %q: %s", want, list)
		}
	}
	if strings.Contains(list, token) || strings.Contains(list, token[len(token)-20:]) {
		t.Errorf("the audit log has the token")
	}
	if got := b.here(exitDone, info.ID, "token", "list"); strings.Contains(got, "REVOKED") {
		t.Errorf("nothing is revoked: %s", got)
	}
	b.here(exitDone, "done", "token", "revoke", token)
	if got := b.here(exitDone, info.ID, "token", "list"); strings.Count(got, "REVOKED") != 2 || strings.Count(got, info.ID) != 2 {
		t.Errorf("it is revoked: %s", got)
	}
	t.Setenv(remote.TokenEnv, "")
	b.far(exitDone, "run this on the box", "token", "list")

	code, text = said(t, "", "token", "attenuate", token, "--ttl", "1000h")
	if code != exitDone || !strings.Contains(text, "as the token that it is made of does, not in 1000h") {
		t.Errorf("%d %s", code, text)
	}
	if code, text = said(t, "", "token", "attenuate", token, "--ttl", "1h"); code != exitDone || strings.Contains(text, "Note") {
		t.Errorf("%d %s", code, text)
	}
}

func TestWhatIsOddIsSaid(t *testing.T) {
	b := newOwnBox(t).start()
	b.here(exitDone, "there is no operator bob yet", "role", "grant", "operator:bob", "viewer")
	if text := b.here(exitDone, "done", "role", "grant", "operator:ann", "operator"); strings.Contains(text, "Note") {
		t.Errorf("ann is there: %s", text)
	}
	b.here(exitFailed, "may not kv.put", "role", "explain", "operator:bob", "kv.put", "key:a")
	b.here(exitDone, "may kv.get", "role", "explain", "operator:ann", "kv.get", "key:a")
	b.here(exitDone, "token.issue", "role", "actions")

	b.here(exitUsage, "a join token is good for 10s to 720h0m0s", "site", "join-token", "--ttl", "500ms")
	var offer struct {
		NotAfter uint64    `json:"not_after"`
		Until    time.Time `json:"not_after_time"`
	}
	before := time.Now()
	if err := json.Unmarshal([]byte(b.here(exitDone, "", "site", "join-token", "--ttl", "30m", "--json")), &offer); err != nil {
		t.Fatal(err)
	}
	if late := offer.Until.Sub(before); offer.NotAfter == 0 || late < 29*time.Minute || late > 31*time.Minute {
		t.Errorf("good until %v, second %d of the site", offer.Until, offer.NotAfter)
	}
	text := b.here(exitDone, "", "site", "join-token", "--replace", "alone")
	if want := "--name alone --peer " + b.c.Peer.Listen; !strings.Contains(text, want) {
		t.Errorf("the command is not for the box's place: %s", text)
	}

	// The arithmetic is said once.
	key := regexp.MustCompile(`"key":"([^"]+)"`).FindStringSubmatch(identity(t))
	text = b.here(exitFailed, "refused unless --force", "site", "add", "--name", "new", "--peer", "127.0.0.1:1", "--key", key[1])
	if strings.Count(text, "quorum 2") != 1 {
		t.Errorf("the arithmetic, once: %s", text)
	}
}

// identity is what another box says of its key.
func identity(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	id, err := trust.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"key": id.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
