package box

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/operators"
	"github.com/holdfast-edge/holdfast/firmware/remote"
)

func TestRightsAreChangedOnABoxAndHoldOnItsPorts(t *testing.T) {
	c := newBox(t)
	ann, err := operators.New("ann", "a long pass phrase", 1)
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
	do := func(b *remote.Box, path, says string, fields ...string) *remote.RightsChanged {
		t.Helper()
		p := map[string]string{}
		for i := 0; i < len(fields); i += 2 {
			p[fields[i]] = fields[i+1]
		}
		r, err := b.ChangeAccess(t.Context(), path, p)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Fatalf("%s %q: %v, want %q", path, fields, err, says)
		}
		return r
	}
	do(root, "/access/policy", "", "name", "p", "text", `forbid (principal, action, resource in Prefix::"secret/");`)
	// This box's word is the quorum, and still it is judged.
	do(root, "/access/policy", "nobody would be left", "name", "q", "text", `forbid (principal, action, resource);`)
	do(root, "/access/grant", "", "principal", "program:cache", "role", "program")
	o, err := root.Access(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rules := access.RulesOf(o.State())
	if v := rules.Decide("program:cache", access.KVGet, access.Key("secret/a")); v.Allowed || v.Policy != "policy/p" {
		t.Errorf("%+v", v)
	}

	do(root, "/access/token", "wrong name or password", "operator", "ann", "password", "another", "actions", "role.*", "resources", "*")
	tok := do(root, "/access/token", "", "operator", "ann", "password", "a long pass phrase", "actions", "role.*,console.view,kv.get", "resources", "*")
	parsed, err := access.ParseToken(tok.Token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Verify(parsed, uint64(time.Now().Unix())); err != nil {
		t.Error(err)
	}
	t.Setenv(remote.TokenEnv, tok.Token)
	far, err := remote.New("http://" + c.Console.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	do(far, "/access/grant", "", "principal", "program:other", "role", "program")
	do(far, "/access/policy", "does not cover", "name", "q", "text", `permit (principal, action, resource);`)
	// Also a key that is no text is no way round a policy.
	for _, path := range []string{"kv/secret/a", "kv/secret/%ff", "kv/secret%2F%ff", "kv/secret/%ff%fe", "proof/secret/%ff?nonce=0011223344556677"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Console.Listen+"/api/v1/"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tok.Token)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Body.Close(); err != nil || a.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s %v", path, a.Status, err)
		}
	}
	do(root, "/access/token/revoke", "", "id", tok.ID)
	do(far, "/access/grant", "revoked", "principal", "program:third", "role", "program")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNobodyMayDoAnythingToWhatCannotBeRead(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "site": true, "records:0-7": true, "key:a": true, "prefix:": true, "box:1": true,
		"key:\xff": false, "keys:a": false, "disk:a": false, "secret": false, "role:": false,
	} {
		if _, err := resourceNamed(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
