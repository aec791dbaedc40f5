package join_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

func token(t testing.TB) *join.Token {
	t.Helper()
	tok, err := join.NewToken(coord.Digest{1, 2, 3}, bytes.NewReader(chance))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestATokenIsReadBackAndHasOneForm(t *testing.T) {
	tok := token(t)
	text := tok.Text()
	for _, same := range []string{text, "  " + text + "\n"} {
		got, err := join.ParseToken(same)
		if err != nil || *got != *tok {
			t.Fatalf("%v, %v", got, err)
		}
	}
	secret := text[strings.LastIndexByte(text, ':')+1:]
	for name, bad := range map[string]string{
		"empty":             "",
		"another version":   "HF2" + text[3:],
		"upper case":        strings.ToUpper(text),
		"upper-case secret": strings.TrimSuffix(text, secret) + strings.ToUpper(secret),
		"cut":               text[:len(text)-1],
		"longer":            text + "0",
		"twice":             text + text,
		"very long":         strings.Repeat("a", 1<<20),
		"no hex":            text[:len(text)-1] + "g",
		"parts moved":       strings.Replace(text, "::", ":", 1) + ":",
		"space inside":      text[:20] + " " + text[21:],
	} {
		_, err := join.ParseToken(bad)
		if !errors.Is(err, join.ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestATokenThatIsPrintedKeepsItsSecret(t *testing.T) {
	tok := token(t)
	text := tok.Text()
	secret := text[strings.LastIndexByte(text, ':')+1:]
	raw, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		out := fmt.Sprintf(verb, tok)
		if strings.Contains(out, secret) || strings.Contains(out, fmt.Sprint(raw)) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func TestTheKeyFollowsFromTheTokenAlone(t *testing.T) {
	a, err := token(t).Key()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := token(t).Key()
	if !bytes.Equal(a.PublicKey(), b.PublicKey()) {
		t.Fatal("one token has two keys")
	}
	other := token(t)
	other.Site[0]++
	c, _ := other.Key()
	other = token(t)
	other.ID[0]++
	d, _ := other.Key()
	if bytes.Equal(a.PublicKey(), c.PublicKey()) || bytes.Equal(a.PublicKey(), d.PublicKey()) {
		t.Fatal("the key is not bound to the site and the id")
	}
	// Written down, so that tokens outlive a release.
	const want = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
	if got := hex.EncodeToString(a.PublicKey()); !strings.HasPrefix(got, want) || got[len(want):len(want)+16] != golden {
		t.Fatalf("the derivation has changed: %s", got[len(want):len(want)+16])
	}
}

// golden is the beginning of the x coordinate of the public key of token(t), as a few lines in another language have it from docs/joining.md.
const golden = "4bf609c72d0cdc6c"

func TestTheSiteHashBindsTheKeysAndTheirOrderAndNotTheAddresses(t *testing.T) {
	s := newSite(t, 3)
	h := join.SiteHash(s.members)
	s.members.List[1].Peer, s.members.List[1].Name = "elsewhere:1", "another"
	if join.SiteHash(s.members) != h {
		t.Error("a corrected address makes tokens void")
	}
	l := s.members.List
	l[0], l[1] = l[1], l[0]
	if join.SiteHash(s.members) == h {
		t.Error("the order is not bound")
	}
	l[0], l[1] = l[1], l[0]
	s.members.Epoch++
	if join.SiteHash(s.members) == h {
		t.Error("the epoch is not bound")
	}
	s.members.Epoch--
	s.members.Site[0]++
	if join.SiteHash(s.members) == h {
		t.Error("the site is not bound")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(token(f).Text())
	f.Add("HF1::" + strings.Repeat("0", 60))
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := join.ParseToken(text)
		if err != nil {
			if !errors.Is(err, join.ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if tok.Text() != strings.TrimSpace(text) {
			t.Fatalf("%q is read as %q", text, tok.Text())
		}
	})
}
