package console

import (
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/wire"
)

// loggedSite has three blocks; the certificate is the last one's.
func loggedSite() *fakeSite {
	s := servingSite()
	s.view.Height, s.view.LogFrom = 12, 10
	put := func(key, value string) []byte {
		var c coord.Columns
		op := kv.Op{Put: &kv.Put{Key: []byte(key), Value: []byte(value)}}
		c.Add(coord.KindKV, 0, 0, 1_000, []byte(key), op.Append(nil, true))
		return wire.NewBodyEncoder().AppendBody(nil, &c)
	}
	s.log = []*site.LogBlock{logBlock(10, "put k v"), logBlock(11, "observe"), logBlock(12, "bad")}
	s.log[0].Cert, s.log[1].Cert = nil, nil
	s.log[0].Batches[0].Author = s.view.Members[2].ID
	s.log[1].Batches = append(s.log[1].Batches, &coord.Batch{Author: s.view.Members[3].ID, Body: put("/<app>/a", "<b>")})
	return s
}

func TestTheLogIsShownNewestFirstAndWhatCannotBeReadIsNoFailure(t *testing.T) {
	text := textOf(sectionOf(get(t, newConsole(t, loggedSite()), "/log").Body.String(), "list"))
	at := 0
	for _, want := range []string{"12", "11", "observe object 77", "observe object 78, 300 times", "put /&lt;app&gt;/a", "10", "put k", "heights 10 to 12"} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("%q does not follow in %q", want, text[at:])
		}
		at += i
	}
}

func TestTheLogIsFilteredByKindAuthorKeyAndHeight(t *testing.T) {
	s := loggedSite()
	c := newConsole(t, s)
	for query, want := range map[string]string{
		"kind=put": "10", "kind=observe": "11", "key=k": "10", "key=/%3Capp": "11", "author=" + s.view.Members[2].ID.String(): "10",
		"author=" + s.view.Members[3].ID.String(): "11", "kind=put&key=x": "", "to=10": "10", "to=99999&kind=kv": "11",
	} {
		list := sectionOf(get(t, c, "/log?"+query).Body.String(), "list")
		var got strings.Builder
		for _, h := range []string{"10", "11", "12"} {
			if strings.Contains(list, `href="/log/`+h+`"`) {
				got.WriteString(h)
			}
		}
		if got.String() != want {
			t.Errorf("%s shows %q, want %q", query, got.String(), want)
		}
	}
	for _, query := range []string{"to=x", "key=0xz"} {
		if w := get(t, c, "/log?"+query); w.Code != 400 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
}

func TestABlockShowsWhoSignedItThroughADescendantToo(t *testing.T) {
	c := newConsole(t, loggedSite())
	text := textOf(get(t, c, "/log/10").Body.String())
	for _, want := range []string{
		"a block that builds on it is: height 12 , which 3 boxes signed. 3 are needed.", "box-0 signed", "box-1 was not needed", "box-2 signed", "box-3 signed", "put k v box-2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	text = textOf(get(t, c, "/log/12").Body.String())
	if !strings.Contains(text, "3 boxes signed that this block is final") || !strings.Contains(text, "cannot be read") {
		t.Errorf("the block itself: %s", text)
	}
	for path, code := range map[string]int{"/log/9": 404, "/log/13": 404, "/log/0": 404, "/log/x": 404, "/log/18446744073709551615": 404, "/log/11?skip=-5": 200, "/log/11?skip=9999999": 200} {
		if w := get(t, c, path); w.Code != code {
			t.Errorf("%s: %d, want %d", path, w.Code, code)
		}
	}
}

func TestACertificateOfAnEpochThatIsNotKnownNamesItsVotersByNumber(t *testing.T) {
	s := loggedSite()
	s.log[2].Cert.Epoch = 77
	text := textOf(get(t, newConsole(t, s), "/log/12").Body.String())
	if !strings.Contains(text, "member 2 signed") || !strings.Contains(text, "does not know the members") {
		t.Error(text)
	}
}
