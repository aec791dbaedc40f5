package access

import (
	"errors"
	"strings"
	"testing"
)

func TestResourcesAreReadAsTheyAreWritten(t *testing.T) {
	for _, r := range []Resource{
		Site(), Key(""), Key("a/b"), Key("a:b"), Prefix("a/"), Keys("a", "b"), Keys("a", EndOfKeys), Document("policy/x"),
		{Kind: KindBox, Name: "0123456789abcdef"},
		{Kind: KindRole, Name: "viewer"},
		{Kind: KindOperator, Name: "ann"},
		{Kind: KindToken, Name: "00"},
		Prefix(""),
	} {
		if back, err := ParseResource(r.String()); err != nil || back != r {
			t.Errorf("%#v is %q is %#v, %v", r, r, back, err)
		}
	}
	for _, s := range []string{"", "key", "file:x", "keys:a", "box:", "role:", "site:x", "key:\xff", "key:" + strings.Repeat("x", 1<<20)} {
		if r, err := ParseResource(s); err == nil && s != "key" || err != nil && !errors.Is(err, ErrResource) {
			t.Errorf("%.20q: %#v, %v", s, r, err)
		}
	}
}

func TestARangeIsWithinAPrefixExactlyWhenAllOfItIs(t *testing.T) {
	names := []string{"", "\x00", "a", "a\x00", "a\xff", "a\xff\xff", "aa", "b", "\xff", "\xff\xff", "\xff\xff\x01"}
	for _, p := range names {
		for _, start := range names {
			for _, end := range append(names[1:], EndOfKeys, prefixEnd(p)) {
				if !strings.HasPrefix(start, p) || end != EndOfKeys && end <= start {
					continue
				}
				e := prefixEnd(p)
				want := e == EndOfKeys || end != EndOfKeys && end <= e
				if end == "\x00" { // EndOfKeys
					want = e == EndOfKeys
				}
				if got := within(p, end); got != want {
					t.Errorf("[%q, %q) within %q: %v, want %v", start, end, p, got, want)
				}
			}
		}
	}
}

func TestPrincipalsHaveAKindAndAPlainName(t *testing.T) {
	for s, ok := range map[string]bool{
		"operator:ann": true, "program:cache-1": true, "box:0123456789abcdef": true, "operator:a.b_c@d": true,
		"operator:": false, "ann": false, "token:00": false, "role:x": false, "box:ann": false, "box:0123456789ABCDEF": false, "operator:a b": false,
		"operator:-a": false, "operator:" + strings.Repeat("a", 65): false, "operator:a/b": false, "operator:\u00e4": false,
	} {
		if err := CheckPrincipal(s); (err == nil) != ok || err != nil && !errors.Is(err, ErrPrincipal) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
