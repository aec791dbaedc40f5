package cli

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/firmware/rights"
)

// publicOf is the public half of a key file, PKIX DER.
func publicOf(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.(*ecdsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestATokenIsIssuedNarrowedAndVerifiedWithoutABox(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	do := func(want int, says string, args ...string) string {
		t.Helper()
		code, text := said(t, "", args...)
		if code != want || !strings.Contains(text, says) {
			t.Fatalf("%q: %d, %s; want %d, %q", args, code, text, want, says)
		}
		return strings.TrimSpace(text)
	}
	do(exitDone, "", "token", "keygen", in("ann.key"))
	holder := do(exitDone, "", "token", "keygen", in("holder.key"))
	do(exitFailed, "there already", "token", "keygen", in("holder.key"))

	operator, err := json.Marshal(access.OperatorDoc{Name: "ann", Key: publicOf(t, in("ann.key"))})
	if err != nil {
		t.Fatal(err)
	}
	o := &rights.Overview{
		Members: &coord.Members{Site: coord.SiteID{1}},
		Documents: []rights.Document{
			{Key: "operator/ann", Version: 1, Value: string(operator)},
			{Key: "grant/operator:ann", Version: 2, Value: `{"roles":["operator"]}`},
			{Key: "policy/secret", Version: 3, Value: `forbid (principal, action, resource in Prefix::"secret/");`},
		},
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	rules := write(t, in("rules.json"), string(text))

	issue := []string{"token", "issue", "--key", in("ann.key"), "--issuer", "operator:ann", "--site", "0100000000000000", "--actions", "kv.*", "--resources", "key:*"}
	free := write(t, in("free"), do(exitDone, "hf1.", issue...))
	bound := write(t, in("bound"), do(exitDone, "hf1.", append(issue, "--holder", holder, "--note", "the cache")...))
	do(exitFailed, "no action", "token", "issue", "--key", in("ann.key"), "--issuer", "operator:ann", "--site", "0100000000000000", "--actions", "kv.gte", "--resources", "*")
	do(exitUsage, "whose name", "token", "issue")

	narrow := write(t, in("narrow"), do(exitDone, "hf1.", "token", "attenuate", free, "--actions", "kv.get", "--resources", "key:a/*", "--ttl", "10m"))
	do(exitFailed, "attenuated too far", "token", "attenuate", narrow, "--actions", "kv.put")
	do(exitFailed, "not the holder", "token", "attenuate", bound, "--actions", "kv.get")
	do(exitDone, "hf1.", "token", "attenuate", bound, "--actions", "kv.get", "--key", in("holder.key"))

	do(exitDone, "whoever has this text", "token", "inspect", narrow)
	do(exitDone, "made of", "token", "inspect", narrow)
	do(exitDone, `"note":"the cache"`, "token", "inspect", bound, "--json")
	do(exitFailed, "malformed", "token", "inspect", "hf1.AAAA")

	verify := func(token string, more ...string) []string {
		return append([]string{"token", "verify", token, "--file", rules}, more...)
	}
	do(exitDone, "good until", verify(free)...)
	do(exitDone, "must prove", verify(bound)...)
	do(exitDone, "kv.get on key:a/b", verify(narrow, "--action", "kv.get", "--resource", "key:a/b")...)
	do(exitFailed, "does not cover", verify(narrow, "--action", "kv.put", "--resource", "key:a/b")...)
	do(exitFailed, "forbidden by policy/secret", verify(free, "--action", "kv.get", "--resource", "key:secret/x")...)
	do(exitFailed, "unknown issuer", verify(write(t, in("other"), do(exitDone, "hf1.", append(issue, "--key", in("holder.key"))...)))...)

	do(exitDone, "hfp1.", "token", "prove", bound, "--key", in("holder.key"))
	do(exitFailed, "not the holder", "token", "prove", bound)

	do(exitFailed, "program:x may not kv.get on key:a: no policy permits it; program:x has no role", "role", "explain", "program:x", "kv.get", "key:a", "--file", rules)
	do(exitDone, "operator:ann may kv.get on key:a: permitted by builtin/operator", "role", "explain", "operator:ann", "kv.get", "key:a", "--file", rules)
	do(exitFailed, "forbidden by policy/secret", "role", "explain", "operator:ann", "kv.get", "prefix:", "--file", rules)
	do(exitUsage, "no action", "role", "explain", "operator:ann", "kv.gte", "key:a", "--file", rules)
	do(exitDone, "operator:ann has operator, viewer", "role", "show", "operator:ann", "--file", rules)
	do(exitDone, "forbid (principal", "role", "show", "policy/secret", "--file", rules)
	do(exitFailed, "there is no", "role", "show", "nothing", "--file", rules)
	do(exitDone, "kv.get", "role", "actions")
	do(exitDone, "it is a policy", "role", "policy", "check", write(t, in("p.cedar"), `permit (principal, action == Action::"kv.get", resource);`))
	do(exitFailed, "there is no action", "role", "policy", "check", write(t, in("q.cedar"), `permit (principal, action == Action::"kv.gte", resource);`))
	do(exitUsage, "not a principal", "role", "grant", "bob", "viewer")
}
