package box

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

// Nothing at the box signs for a token whose holder keeps the key: the judge hears of nobody who asks. This box's word, which on a site of
// one box is the quorum, must not make more of the token than its issuer may.
func TestATokenWhoseKeyIsElsewhereDecidesNoMoreThanItsIssuer(t *testing.T) {
	const secret, other = "a long pass phrase", "quite another phrase"
	c := newBox(t)
	ann, err := operators.New("ann", secret, 1)
	if err != nil {
		t.Fatal(err)
	}
	value, err := ann.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, operators.FoundingFile), value, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Console.Listen = freeAddress(t)
	stop := runBox(t, c)
	root, err := remote.New("unix://" + c.Console.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	post := func(path string, fields map[string]string, header ...string) (int, string) {
		t.Helper()
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.Console.Listen+"/api/v1"+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(root.Post(t.Context(), "/api/v1/operators/add", map[string]string{"name": "olaf", "password": secret, "role": "operator"}, nil))
	_, err = root.ChangeAccess(t.Context(), "/access/policy", map[string]string{
		"name": "desk", "text": `permit (principal == Operator::"olaf", action in [Action::"operator.add", Action::"role.grant", Action::"role.revoke", Action::"decision.propose", Action::"setting.put"], resource);`,
	})
	must(err)
	_, text := post("/login", map[string]string{"name": "olaf", "password": secret})
	var in struct{ CSRF string }
	must(json.Unmarshal([]byte(text), &in))
	if code, text := post("/password", map[string]string{"old": secret, "password": other}, "X-CSRF-Token", in.CSRF); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	// Who may propose may not propose what they may not ask for: this box's word alone would have the site decide it.
	for _, x := range []struct {
		kind, on, doc, value string
		code                 int
		says                 string
	}{
		{"policy.put", "policy/mine", "policy/mine", `permit (principal == Operator::"olaf", action, resource);`, http.StatusBadRequest, "policy.put"},
		{"anything.goes", "policy/mine", "policy/mine", `permit (principal == Operator::"olaf", action, resource);`, http.StatusBadRequest, "anything.goes"},
		{"setting.put", "setting/client", "setting/client", `{"access":"open"}`, http.StatusOK, "took effect"},
	} {
		proposal, err := json.Marshal(&api.Proposal{Kind: x.kind, Subject: x.on, Writes: []api.ProposalWrite{{Key: x.doc, Value: &x.value}}})
		must(err)
		if code, text := post("/decisions/propose", map[string]string{"proposal": string(proposal)}, "X-CSRF-Token", in.CSRF); code != x.code || !strings.Contains(text, x.says) {
			t.Errorf("olaf proposes %s: %d %s", x.kind, code, text)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	holder, err := access.NewPrivateKey(key)
	must(err)
	issued, err := root.ChangeAccess(t.Context(), "/access/token", map[string]string{
		"operator": "olaf", "password": other, "actions": "operator.add,role.*", "resources": "*", "holder": holder.Public().String(),
	})
	must(err)
	tok, err := access.ParseToken(issued.Token)
	must(err)
	for _, x := range []struct {
		path   string
		fields map[string]string
		code   int
		says   string
	}{
		{"/access/grant", map[string]string{"principal": "program:cache", "role": "viewer"}, http.StatusOK, "done"},
		{"/access/grant", map[string]string{"principal": "operator:olaf", "role": "admin"}, http.StatusBadRequest, "more than they have"},
		{"/operators/add", map[string]string{"name": "eve", "password": other, "role": "admin"}, http.StatusBadRequest, "more than they have"},
		{"/access/revoke", map[string]string{"principal": "program:other", "role": "viewer"}, http.StatusBadRequest, "has no role"},
		{"/access/revoke", map[string]string{"principal": "program:other", "role": "viewer", "take": "false"}, http.StatusBadRequest, `no field \"take\"`},
	} {
		p := access.Proof{TimeMs: uint64(time.Now().UnixMilli())}
		_, _ = rand.Read(p.Nonce[:])
		must(p.Sign(tok, holder))
		if code, text := post(x.path, x.fields, "Authorization", "Bearer "+issued.Token, "Holdfast-Proof", p.String()); code != x.code || !strings.Contains(text, x.says) {
			t.Errorf("%s %v: %d %s", x.path, x.fields, code, text)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
