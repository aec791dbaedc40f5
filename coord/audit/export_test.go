package audit_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
)

var update = flag.Bool("update", false, "write the golden files")

func entries() []audit.Entry {
	b := coord.BoxID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	return []audit.Entry{
		{Index: 0, Record: audit.Record{TimeMs: 1800000000000, Box: b, Principal: "operator:ann", Action: "auth.login", Outcome: audit.Allowed, Source: "192.0.2.7:51000", Request: "q-1", Policy: "password"}},
		{Index: 1, Record: audit.Record{TimeMs: 1800000000100, Box: b, Action: "auth.login", Resource: "console", Outcome: audit.Denied, Source: "[2001:db8::7]:51001", Reason: "wrong password"}},
		{Index: 2, Record: audit.Record{TimeMs: 1800000000200, Box: b, Principal: "program:cache", Action: "kv.put", Resource: "/config/ttl", Outcome: audit.Allowed, Policy: "policy3", Request: "q-2", Source: "unix", Revision: 42}},
		{Index: 3, Record: audit.Record{TimeMs: 1800000000300, Box: b, Principal: "program:cache", Action: "member.expel", Resource: "box:ffffffffffffffff", Outcome: audit.Denied, Policy: "policy7", Reason: "no policy permits it"}},
		{Index: 4, Record: audit.Record{TimeMs: 1800000000400, Box: b, Principal: "operator:ann", Action: "site.frobnicate", Outcome: audit.Failed, Reason: "a=b|c\\d\ne\rf", Resource: "x=1 act=forged"}},
	}
}

func TestTheExportsAreAsAgreed(t *testing.T) {
	for name, appendTo := range map[string]func([]byte, *audit.Entry, string) []byte{"audit.ocsf.jsonl": audit.AppendOCSF, "audit.cef": audit.AppendCEF} {
		var got []byte
		for _, e := range entries() {
			got = appendTo(got, &e, "1.2|3")
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

// parseCEF reads a line as the format's rules say; ok is false for anything that they do not allow.
func parseCEF(line string) (head []string, ext map[string]string, ok bool) {
	field := ""
	rest := line
	for len(head) < 7 {
		if rest == "" {
			return nil, nil, false
		}
		switch c := rest[0]; {
		case c == '\\' && len(rest) > 1 && (rest[1] == '\\' || rest[1] == '|'):
			field, rest = field+rest[1:2], rest[2:]
		case c == '\\':
			return nil, nil, false
		case c == '|':
			head, field, rest = append(head, field), "", rest[1:]
		default:
			field, rest = field+rest[:1], rest[1:]
		}
	}
	ext = map[string]string{}
	key := regexp.MustCompile(`(^| )([A-Za-z0-9]+)=`)
	unescape := strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n", `\r`, "\r")
	// A key is a word with an equal sign that no backslash stands before; the value goes on to the next.
	at := key.FindAllStringSubmatchIndex(rest, -1)
	for i, m := range at {
		end := len(rest)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		k, v := rest[m[4]:m[5]], rest[m[1]:end]
		if _, twice := ext[k]; twice {
			return nil, nil, false
		}
		if bare := strings.NewReplacer(`\\`, "", `\=`, "", `\n`, "", `\r`, "").Replace(v); strings.ContainsAny(bare, `=\`) {
			return nil, nil, false
		}
		ext[k] = unescape.Replace(v)
	}
	return head, ext, true
}

// Whatever is in a record, each export is one line that reads back as this record and nothing else.
func FuzzExportsCannotBeInjected(f *testing.F) {
	f.Add("operator:ann", "kv.put", "/a b=c", "p|q", "x\ny", "r\r", "1.2.3.4:5")
	f.Add("a\\", "auth.login|0|", "x act=forged", "\\=", "\u2028{}\"", "\x00\x1b[2J", "[::1]:9")
	f.Add("\xff\xfe", "", "\\n", "a\\|b", "\\", "=", "|")
	f.Fuzz(func(t *testing.T, principal, action, resource, policy, reason, request, source string) {
		e := audit.Entry{Index: 7, Record: audit.Record{
			TimeMs: 1, Box: testBox, Principal: principal, Action: action, Resource: resource,
			Outcome: audit.Denied, Policy: policy, Reason: reason, Request: request, Source: source, Revision: 9,
		}}
		e.Clip()
		if err := e.Check(); err != nil {
			t.Fatal(err)
		}
		back, err := audit.Decode(e.Append(nil))
		if err != nil || *back != e.Record {
			t.Fatalf("%v: %+v is read back as %+v", err, e.Record, back)
		}
		line := audit.AppendOCSF(nil, &e, "1")
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' || !utf8.Valid(line) {
			t.Fatalf("not one line: %q", line)
		}
		var v struct {
			Class    int `json:"class_uid"`
			Status   int `json:"status_id"`
			Activity int `json:"activity_id"`
			Type     int `json:"type_uid"`
			Metadata struct {
				Code string `json:"event_code"`
			}
			Detail    string `json:"status_detail"`
			Actor     struct{ User struct{ Name string } }
			Resources []struct{ Name string }
			Unmapped  map[string]string
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		res := v.Unmapped["resource"]
		if len(v.Resources) == 1 {
			res = v.Resources[0].Name
		}
		if v.Metadata.Code != e.Action || v.Detail != e.Reason || res != e.Resource || v.Status != 2 || v.Type != v.Class*100+v.Activity ||
			(e.Principal != "" && v.Actor.User.Name != e.Principal) {
			t.Fatalf("%+v of %q", v, line)
		}
		line = audit.AppendCEF(nil, &e, "1")
		if strings.ContainsFunc(string(line[:len(line)-1]), func(r rune) bool {
			return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
		}) || line[len(line)-1] != '\n' {
			t.Fatalf("not one line of text: %q", line)
		}
		head, ext, ok := parseCEF(string(line[:len(line)-1]))
		if !ok || head[0] != "CEF:0" || head[6] != "6" {
			t.Fatalf("not CEF: %q", line)
		}
		plain := func(s string) string { // what printable leaves
			return strings.Map(func(r rune) rune {
				if r != '\n' && r != '\r' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029) {
					return ' '
				}
				return r
			}, s)
		}
		for k, want := range map[string]string{
			"suser": e.Principal, "act": e.Action, "cs1": e.Resource, "cs2": e.Policy,
			"reason": e.Reason, "externalId": e.Request, "outcome": "denied", "cn1": "7", "cn2": "9",
		} {
			if ext[k] != plain(want) {
				t.Fatalf("%s is %q, want %q, in %q", k, ext[k], plain(want), line)
			}
		}
	})
}
