package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// closedSite is a site of four that asks programs for tokens, with its first operator logged in at box 0.
type closedSite struct {
	*liveSite
	admin *person
}

func newClosedSite(t *testing.T) *closedSite {
	t.Helper()
	s := &closedSite{liveSite: newSite(t)}
	s.start()
	s.admin = s.person(0)
	if err := s.admin.logIn("admin", s.ready().Password); err != nil {
		t.Fatal(err)
	}
	s.must("/settings/client", map[string]string{"value": `{"access":"token"}`})
	for i := range 4 {
		s.await("box "+strconv.Itoa(i)+" asks for tokens", func() error {
			if code, text := s.put(i, "cache/a", "", ""); code == http.StatusOK || !strings.Contains(text, "user name is empty") {
				return fmt.Errorf("%d %s", code, text)
			}
			return nil
		})
	}
	return s
}

// must has the first operator do something at box 0, and nobody else approves it.
func (s *closedSite) must(path string, fields map[string]string) {
	s.t.Helper()
	if code, text := s.admin.post(path, fields); code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, code, text)
	}
}

func (s *closedSite) socket(i int) string {
	return "unix://" + filepath.Join(s.ready().Boxes[i].Dir, "holdfast.sock")
}

func (s *closedSite) client(i int) string { return "127.0.0.1:" + strconv.Itoa(s.base+40+10*i) }

// tool runs a command of the program, whose input is the operator's password, and gives its only line.
func (s *closedSite) tool(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.program, args...)
	cmd.Stdin = strings.NewReader(s.ready().Password + "\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v %s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// issue has the first operator issue a token at box 0.
func (s *closedSite) issue(actions, resources, ttl, holder string) string {
	s.t.Helper()
	return s.tool("token", "issue", "--operator", "admin", "--actions", actions, "--resources", resources, "--ttl", ttl, "--holder", holder, "--addr", s.socket(0))
}

// show asks something of a box over HTTP, with a token and the proof of its holder, each of which may be missing.
func (s *closedSite) show(url, body, token, proof string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if proof != "" {
		req.Header.Set("Holdfast-Proof", proof)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// put writes a key through box i's client API.
func (s *closedSite) put(i int, key, token, proof string) (int, string) {
	s.t.Helper()
	body, err := json.Marshal(map[string][]byte{"key": []byte(key), "value": []byte("v")})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.show("http://"+s.client(i)+"/v3/kv/put", string(body), token, proof)
}

// change changes a setting through box i's console.
func (s *closedSite) change(i int, token, proof string) (int, string) {
	s.t.Helper()
	return s.show(s.console(i)+"/api/v1/settings/joins", `{"value":"{\"approve\":\"operator\"}"}`, token, proof)
}

// denied waits for the record of a refusal on box i. Of refusals that are alike a box records one a second, so it is tried again.
func (s *closedSite) denied(i int, what string, try func() error, is func(e *audit.Entry) bool) {
	s.t.Helper()
	s.await(fmt.Sprintf("box %d has a record: %s", i, what), func() error {
		if err := try(); err != nil {
			s.t.Fatalf("%s: box %d: %v", what, i, err)
		}
		out, err := s.run("audit", "list", "--json", "--last", "0", "--outcome", "denied", "--addr", s.socket(i))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(out) {
			var e audit.Entry
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			if is(&e) {
				return nil
			}
		}
		return fmt.Errorf("there are %s", out)
	})
}

// refuses is nil if a box refuses a token for that reason.
func (s *closedSite) refuses(do func(i int, key, token, proof string) (int, string), i int, token string, why error) error {
	if code, text := do(i, "cache/a", token, ""); code != http.StatusUnauthorized || !strings.Contains(text, why.Error()) {
		return fmt.Errorf("%d %s", code, text)
	}
	return nil
}

// How a token was come by does not help: without the holder's key it is nothing, and what the site takes back, or what has ended, is nothing on
// any box. Each refusal is in the audit log of the box that refused, and says why.
func TestAStolenTokenIsDeniedOnEveryPortAndTheDenialIsRecorded(t *testing.T) {
	s := newClosedSite(t)
	dir := t.TempDir()
	mine, others := filepath.Join(dir, "mine.key"), filepath.Join(dir, "others.key")
	public := s.tool("token", "keygen", mine)
	s.tool("token", "keygen", others)
	token := s.issue("kv.put,setting.put", "key:cache/*,doc:setting/joins", "1h", public)
	prove := func(box int) string {
		return s.tool("token", "prove", token, "--key", mine, "--box", s.ready().Boxes[box].ID)
	}
	if code, text := s.put(1, "cache/a", token, prove(1)); code != http.StatusOK {
		t.Fatalf("its holder: %d %s", code, text)
	}
	// The console lets it in; other boxes cannot see the holder's key behind the change, so their operators must say.
	if code, text := s.change(1, token, prove(1)); code != http.StatusAccepted {
		t.Fatalf("its holder at the console: %d %s", code, text)
	}

	// Somebody has the text of the token, and a proof that went over the wire.
	heard := prove(2)
	if code, text := s.put(2, "cache/a", token, heard); code != http.StatusOK {
		t.Fatalf("its holder: %d %s", code, text)
	}
	forged := heard[:len(heard)-4] + map[bool]string{true: "BBBB", false: "AAAA"}[strings.HasSuffix(heard, "AAAA")]
	for name, try := range map[string]struct {
		box        int
		proof, why string
	}{
		"without a proof":            {0, "", access.ErrHolder.Error()},
		"with one heard before":      {2, heard, access.ErrReplayed.Error()},
		"with one for another box":   {3, prove(2), access.ErrSite.Error()},
		"with one that was changed":  {2, forged, access.ErrHolder.Error()},
		"with one by another key":    {1, s.tool("token", "prove", token, "--key", others), access.ErrHolder.Error()},
		"with what is no proof":      {1, "hfp1.nonsense", access.ErrMalformed.Error()},
		"to the console without any": {-1, "", access.ErrHolder.Error()},
	} {
		box, do := try.box, func(i int) (int, string) { return s.put(i, "cache/a", token, try.proof) }
		if box < 0 {
			box, do = 3, func(i int) (int, string) { return s.change(i, token, try.proof) }
		}
		s.denied(box, name, func() error {
			if code, text := do(box); code != http.StatusUnauthorized || !strings.Contains(text, try.why) {
				return fmt.Errorf("%d %s", code, text)
			}
			return nil
		}, func(e *audit.Entry) bool {
			return e.Action == "auth.token" && strings.HasPrefix(e.Resource, "token:") && strings.Contains(e.Reason, try.why) && strings.HasPrefix(e.Source, "127.0.0.1")
		})
	}
	// What it does not cover, its holder may not do either.
	s.denied(0, "another key", func() error {
		if code, text := s.put(0, "other", token, prove(0)); code != http.StatusForbidden || !strings.Contains(text, access.ErrScope.Error()) {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	}, func(e *audit.Entry) bool {
		return e.Action == "kv.put" && e.Resource == "key:other" && strings.HasPrefix(e.Principal, "token:") && strings.Contains(e.Policy, "operator:admin")
	})

	// One whose key travels with it is good for whoever has it, until the site takes it back, or its time is over.
	carried := s.issue("kv.put,setting.put", "*", "1h", "")
	narrow := s.tool("token", "attenuate", carried, "--actions", "kv.put", "--resources", "key:cache/*")
	brief := s.issue("kv.put", "key:cache/*", "4s", "")
	for i := range 4 {
		for name, token := range map[string]string{"a token": carried, "what was made of it": narrow} {
			if code, text := s.put(i, "cache/a", token, ""); code != http.StatusOK {
				t.Fatalf("%s on box %d: %d %s", name, i, code, text)
			}
		}
	}
	parsed, err := access.ParseToken(carried)
	if err != nil {
		t.Fatal(err)
	}
	s.must("/access/token/revoke", map[string]string{"id": parsed.ID().String(), "reason": "it was stolen"})
	for i := range 4 {
		// Other boxes hear of it a moment later.
		s.await("the token is good no more", func() error { return s.refuses(s.put, i, carried, access.ErrRevoked) })
		s.await("a token has ended", func() error { return s.refuses(s.put, i, brief, access.ErrExpired) })
		console := func(i int, _, token, proof string) (int, string) { return s.change(i, token, proof) }
		for name, x := range map[string]struct {
			do    func(i int, key, token, proof string) (int, string)
			token string
			why   error
		}{
			"a revoked token":                  {s.put, carried, access.ErrRevoked},
			"what was made of a revoked token": {s.put, narrow, access.ErrRevoked},
			"a revoked token at the console":   {console, carried, access.ErrRevoked},
			"a token whose time is over":       {s.put, brief, access.ErrExpired},
			"such a token at the console":      {console, brief, access.ErrExpired},
		} {
			s.denied(i, name, func() error { return s.refuses(x.do, i, x.token, x.why) }, func(e *audit.Entry) bool {
				return strings.Contains(e.Reason, x.why.Error())
			})
		}
	}
	s.stop()
}

// As etcdctl does it: name and password give a token, at one box, and all take it.
func TestProgramsLogInAsToEtcdAndGuessingIsSlowedOnEveryPort(t *testing.T) {
	s := newClosedSite(t)
	password := s.ready().Password
	var conns []*grpc.ClientConn
	for i := range 4 {
		conn, err := grpc.NewClient(s.client(i), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, err := pb.NewAuthClient(conns[2]).Authenticate(ctx, &pb.AuthenticateRequest{Name: "admin", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	for i, conn := range conns {
		kv := pb.NewKVClient(conn)
		if _, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); status.Convert(err).Message() != status.Convert(rpctypes.ErrGRPCUserEmpty).Message() {
			t.Errorf("box %d without a login: %v", i, err)
		}
		with := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, in.Token)
		if _, err := kv.Put(with, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Errorf("box %d after the login: %v", i, err)
		}
	}

	// Four mistakes are free, then each next one waits twice as long: in the minutes that this test may take no more than some 12 of the guesses
	// are looked at. Everything else is refused unseen, the right password too.
	const guesses, looked = 60, 12
	far := s.person(1)
	known := s.person(1)
	if err := known.logIn("admin", password); err != nil {
		t.Fatal(err)
	}
	seen, refused := 0, 0
	for i := range guesses {
		switch code, text := far.post("/login", map[string]string{"name": "admin", "password": "guess " + strconv.Itoa(i)}); {
		case code == http.StatusUnauthorized:
			seen++
		case code == http.StatusTooManyRequests && strings.Contains(text, "wait"):
			refused++
		default:
			t.Fatalf("guess %d: %d %s", i, code, text)
		}
	}
	t.Logf("%d guesses: %d looked at, %d told to wait", guesses, seen, refused)
	if seen > looked || seen < 4 {
		t.Errorf("%d of %d guesses were looked at", seen, guesses)
	}
	s.await("the right password is told to wait as well", func() error {
		for i := range 4 { // some of these may be looked at, and the next wait is longer
			_, _ = far.post("/login", map[string]string{"name": "admin", "password": "more " + strconv.Itoa(i)})
		}
		if err := far.logIn("admin", password); err == nil || !strings.Contains(err.Error(), "wait") {
			return fmt.Errorf("not told so: %v", err)
		}
		return nil
	})
	// The client port is no way around that.
	if _, err := pb.NewAuthClient(conns[1]).Authenticate(ctx, &pb.AuthenticateRequest{Name: "admin", Password: password}); err == nil || !strings.Contains(err.Error(), "too many requests") {
		t.Errorf("the right password at the client port: %v", err)
	}
	s.denied(1, "wrong passwords", func() error { return nil }, func(e *audit.Entry) bool { return e.Action == "auth.login" && strings.HasPrefix(e.Source, "127.0.0.1") })
	// The operator's own browser, which has logged in there before, is served.
	if err := known.logIn("admin", password); err != nil {
		t.Errorf("from a known browser: %v", err)
	}
	s.stop()
}

// An operator's cookie is not enough to act, its session's secret must come along; then what the operator decides at one box takes effect on
// all four, because all see the operator's signature: nobody approves it.
func TestAnOperatorsDecisionNeedsNobodyElse(t *testing.T) {
	s := newSite(t)
	s.start()
	admin := s.person(2)
	if err := admin.logIn("admin", s.ready().Password); err != nil {
		t.Fatal(err)
	}
	value := map[string]string{"value": `{"mode":"automatic"}`}
	secret := admin.csrf
	for name, csrf := range map[string]string{"no": "", "another's": "x" + secret} {
		admin.csrf = csrf
		if code, text := admin.post("/settings/expulsion", value); code != http.StatusForbidden {
			t.Errorf("with %s secret: %d %s", name, code, text)
		}
	}
	admin.csrf = secret
	if code, text := s.person(2).post("/settings/expulsion", value); code != http.StatusUnauthorized {
		t.Errorf("without a cookie: %d %s", code, text)
	}
	if code, text := admin.post("/settings/expulsion", value); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for i := range 4 {
		s.await("it took effect on box "+strconv.Itoa(i), func() error {
			out, err := s.run("decision", "list", "--json", "--addr", s.console(i))
			if err != nil {
				return err
			}
			var d api.Decisions
			if err := json.Unmarshal(out, &d); err != nil {
				return err
			}
			if len(d.Open) != 0 || len(d.Ended) != 1 {
				return fmt.Errorf("%s", out)
			}
			if e := &d.Ended[0]; e.Kind != "setting.put" || e.Principal != "operator:admin" || len(e.Yes) < 3 {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		// The boxes themselves gave their words, on what they had proof of.
		out, err := s.run("audit", "list", "--json", "--action", "decision.approve", "--addr", "unix://"+filepath.Join(s.ready().Boxes[i].Dir, "holdfast.sock"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(out) {
			var e audit.Entry
			if err := json.Unmarshal(line, &e); err != nil || e.Principal != "box:"+s.ready().Boxes[i].ID {
				t.Errorf("box %d's word was given by %q: %v", i, e.Principal, err)
			}
		}
	}
	s.stop()
}
