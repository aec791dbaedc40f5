package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/audit"
	"github.com/holdfast-edge/holdfast/coord/kv"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/operators"
)

// oneBox orders each message at once, as a site of one box does.
type oneBox struct {
	mu     sync.Mutex
	state  *state.Machine
	height uint64
	deaf   bool // answers nothing
}

func (o *oneBox) Submit(r *site.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deaf {
		return
	}
	o.height++
	o.state.Begin(&coord.Block{Height: o.height})
	results, _ := o.state.Batch(coord.BoxID{1}, o.height, 0, r.Cols, nil)
	o.state.End()
	r.Done(coord.Reply{Results: results})
}

// put sets a key as a program would.
func (o *oneBox) put(t *testing.T, key, value string) {
	t.Helper()
	cols := new(coord.Columns)
	op := kv.Op{Put: &kv.Put{Key: []byte(key), Value: []byte(value)}}
	cols.Add(coord.KindKV, 0, 0, 0, []byte(key), op.Append(nil, true))
	o.Submit(&site.Request{Cols: cols, Done: func(r coord.Reply) {
		if len(r.Results) != 1 || r.Results[0].Code != coord.CodeOK {
			t.Fatalf("put %q: %+v", key, r)
		}
	}})
}

func (o *oneBox) get(t *testing.T, key string) (string, bool) {
	t.Helper()
	k, found, err := o.state.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(k.Value), found
}

// newKeys is a console whose keys can be changed, and an operator who is logged in.
func newKeys(t *testing.T, a Access) (*oneBox, *browser, *guarded) {
	t.Helper()
	s, d := servingSite(), newDesk(t)
	box := &oneBox{state: s.state, height: 1}
	c, err := New(Config{Site: s, Metrics: measures(t, s), Submit: box.Submit, Audit: auditLog(t), Desk: d.Desk, Access: a, Record: d.record, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{c, d}
	b := g.browser()
	b.setUp(t, "ann")
	return box, b, g
}

func TestKeysAreListedByPrefixInPages(t *testing.T) {
	box, b, _ := newKeys(t, nil)
	for i := range keysPageMax + 3 {
		box.put(t, "/many/"+strconv.Itoa(1000+i), "v")
	}
	box.put(t, "/other", "x")
	first := sectionOf(b.get("/keys?prefix=/many/").Body.String(), "browse")
	if !strings.Contains(first, "/many/1049") || strings.Contains(first, "/many/1050") || strings.Contains(first, `>/other<`) || !strings.Contains(textOf(first), "53 keys") {
		t.Errorf("the first page is %s", textOf(first))
	}
	next := sectionOf(b.get("/keys?prefix=%2Fmany%2F&after=%2Fmany%2F1049").Body.String(), "browse")
	if !strings.Contains(next, "/many/1052") || strings.Contains(next, "one?key=%2Fmany%2F1049\"") || !strings.Contains(next, "First page") || strings.Contains(next, "Next page") {
		t.Errorf("the second page is %s", textOf(next))
	}
	if all := b.get("/keys").Body.String(); !strings.Contains(all, "54 keys") {
		t.Errorf("all keys are %s", textOf(all))
	}
}

func TestKeysAndValuesOfAnyBytesAreShownAndKept(t *testing.T) {
	box, b, _ := newKeys(t, nil)
	for _, key := range []string{"\x00\xff/k", "<script>alert(1)</script>", "0x00", "a b&c=d?e#f%2F", "\xff\xff", "new\nline", `"'`, "ключ"} {
		box.put(t, key, "value <b> of "+key)
		list := b.get("/keys").Body.String()
		if strings.Contains(list, "<script>alert") {
			t.Fatalf("%q is markup", key)
		}
		path := keyPath([]byte(key))
		if !strings.Contains(unescape(list), path) {
			t.Errorf("the list does not lead to %q", key)
		}
		w := b.get(path)
		if w.Code != 200 || strings.Contains(w.Body.String(), "<script>alert") || strings.Contains(w.Body.String(), "value <b>") || !strings.Contains(w.Body.String(), "revision") {
			t.Errorf("%q: %d %s", key, w.Code, textOf(w.Body.String()))
		}
		// What the form has is written back as it is.
		was, _ := box.get(t, key)
		form := formOf(t, w.Body.String(), formPutKey)
		if w := b.do("POST", formPutKey, form); w.Code != http.StatusSeeOther {
			t.Fatalf("%q saved: %d %s", key, w.Code, textOf(w.Body.String()))
		}
		if now, _ := box.get(t, key); now != was {
			t.Errorf("%q was %q and is %q", key, was, now)
		}
	}
}

// sectionOf is one section of a page.
func sectionOf(html, id string) string {
	_, rest, _ := strings.Cut(html, `<section id="`+id+`"`)
	text, _, _ := strings.Cut(rest, "</section>")
	return text
}

// formOf is what a browser sends of the form that is posted to action.
func formOf(t *testing.T, html, action string) url.Values {
	t.Helper()
	_, rest, found := strings.Cut(html, `action="`+action+`"`)
	if !found {
		t.Fatalf("no form for %s in %s", action, textOf(html))
	}
	rest, _, _ = strings.Cut(rest, "</form>")
	form := url.Values{}
	for _, tag := range strings.Split(rest, "<input")[1:] {
		tag, _, _ = strings.Cut(tag, ">")
		if strings.Contains(tag, `type="radio"`) && !strings.Contains(tag, "checked") {
			continue
		}
		form.Set(attribute(tag, "name"), attribute(tag, "value"))
	}
	if _, area, found := strings.Cut(rest, "<textarea"); found {
		_, area, _ = strings.Cut(area, ">\n")
		area, _, _ = strings.Cut(area, "</textarea>")
		form.Set("value", strings.ReplaceAll(unescape(area), "\n", "\r\n")) // as HTML says
	}
	return form
}

func attribute(tag, name string) string {
	_, v, _ := strings.Cut(tag, " "+name+`="`)
	v, _, _ = strings.Cut(v, `"`)
	return unescape(v)
}

func unescape(s string) string {
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&#34;", `"`, "&#39;", "'", "&amp;", "&", "&#43;", "+").Replace(s)
}

func TestNothingIsOverwrittenUnseen(t *testing.T) {
	box, b, _ := newKeys(t, nil)
	box.put(t, "k", "one")
	form := formOf(t, b.get("/keys/one?key=k").Body.String(), formPutKey)
	box.put(t, "k", "two")
	form.Set("value", "mine <i>")
	w := b.do("POST", formPutKey, form)
	page := w.Body.String()
	if w.Code != http.StatusConflict || !strings.Contains(page, "it has changed since you opened it") {
		t.Fatalf("%d %s", w.Code, textOf(page))
	}
	if v, _ := box.get(t, "k"); v != "two" {
		t.Errorf("it is %q now", v)
	}
	again := formOf(t, page, formPutKey)
	if again.Get("value") != "mine <i>" || !strings.Contains(page, ">two<") {
		t.Errorf("what was typed, or what it is, is not on the page: %s", textOf(page))
	}
	// Who has seen what it is now may save it.
	if w := b.do("POST", formPutKey, again); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/keys/one?key=k" {
		t.Errorf("%d %s", w.Code, w.Header().Get("Location"))
	}
	if v, _ := box.get(t, "k"); v != "mine <i>" {
		t.Errorf("it is %q now", v)
	}
	create := formOf(t, b.get("/keys").Body.String(), formPutKey)
	create.Set("key", "k")
	if w := b.do("POST", formPutKey, create); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "there is such a key already") {
		t.Errorf("created over: %d %s", w.Code, textOf(w.Body.String()))
	}
}

func TestAKeyIsDeletedAsItWasSeen(t *testing.T) {
	box, b, g := newKeys(t, nil)
	box.put(t, "k", "one")
	form := formOf(t, b.get("/keys/one?key=k").Body.String(), formDeleteKey)
	box.put(t, "k", "two")
	if w := b.do("POST", formDeleteKey, form); w.Code != http.StatusConflict {
		t.Errorf("what was not seen is deleted: %d", w.Code)
	}
	form = formOf(t, b.get("/keys/one?key=k").Body.String(), formDeleteKey)
	if w := b.do("POST", formDeleteKey, form); w.Code != http.StatusSeeOther {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if _, found := box.get(t, "k"); found {
		t.Error("it is still there")
	}
	if !g.desk.recorded(actionDelete, audit.Allowed, "operator:ann") {
		t.Error("it is not in the audit log")
	}
	if page := textOf(b.get("/keys/one?key=k").Body.String()); !strings.Contains(page, "There is no such key now") || !strings.Contains(page, "Create it") {
		t.Errorf("its page says %s", page)
	}
}

func TestAKeysVersionsCanBeRead(t *testing.T) {
	box, b, _ := newKeys(t, nil)
	for _, v := range []string{"one", "two", "three"} {
		box.put(t, "k", v)
	}
	page := textOf(b.get("/keys/one?key=k").Body.String())
	if !strings.Contains(page, "three") || !strings.Contains(page, "two") || !strings.Contains(page, "one") {
		t.Errorf("the versions are %s", page)
	}
	old := b.get("/keys/one?key=k&rev=" + strconv.FormatUint(box.state.Revision()-1, 10)).Body.String()
	if !strings.Contains(old, ">two<") || strings.Contains(old, `action="/kv/put"`) {
		t.Errorf("the old value is %s", textOf(old))
	}
	for path, code := range map[string]int{"/keys/one?key=k&rev=99999": 404, "/keys/one?key=k&rev=x": 400, "/keys/one?key=": 400, "/keys/one?key=0xzz": 400, "/keys?prefix=0x1": 400} {
		if w := b.get(path); w.Code != code {
			t.Errorf("%s: %d, want %d", path, w.Code, code)
		}
	}
}

func TestWhoMayReadSomeKeysSeesThemAndWhoMayReadNoneIsToldSo(t *testing.T) {
	box, b, g := newKeys(t, onlyKeys{"/app/"})
	box.put(t, "/app/a", "1")
	box.put(t, "/secret", "s3cr3t")
	if w := b.get("/keys?prefix=/app/"); w.Code != 200 || !strings.Contains(w.Body.String(), "/app/a") || strings.Contains(w.Body.String(), `action="/kv/put"`) {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	if w := b.get("/keys"); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "/secret") || !strings.Contains(w.Body.String(), "you may not do this") {
		t.Errorf("all keys: %d %s", w.Code, textOf(w.Body.String()))
	}
	if w := b.get("/keys?prefix=/"); w.Code != 200 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), "you may not read") {
		t.Errorf("%d %s", w.Code, textOf(w.Body.String()))
	}
	for _, path := range []string{"/keys/one?key=/secret", "/keys/one?key=%2Fsecret&as=hex"} {
		if w := b.get(path); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "s3cr3t") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if !g.desk.recorded(actionGet, audit.Denied, "operator:ann") {
		t.Error("the denial is not in the audit log")
	}
	if w := b.post("/keys?prefix=/app/", formPutKey, "key", "/app/a", "value", "2", "revision", "2"); w.Code != http.StatusForbidden {
		t.Errorf("a change that is not allowed: %d", w.Code)
	}
}

// onlyKeys is an Access in which operators may look, and read keys with a prefix.
type onlyKeys struct{ prefix string }

func (o onlyKeys) May(_, action, resource string) (bool, string) {
	key, isKey := strings.CutPrefix(resource, "key:")
	prefix, isPrefix := strings.CutPrefix(resource, everyKeyPrefix)
	return action == actionView || action == actionGet && (isKey && strings.HasPrefix(key, o.prefix) || isPrefix && strings.HasPrefix(prefix, o.prefix)), "policy-7"
}

func (onlyKeys) Signer(p, _ string, _ *operators.Session) operators.By {
	return operators.By{Principal: p}
}
func (onlyKeys) Token(string, string, string, string) (string, error) { return "", errLogin }
func (onlyKeys) Still(string, string) bool                            { return false }
func (onlyKeys) MayAsk(string, string, *coord.Decision) error         { return nil }

func TestAKeyThatIsNotUTF8IsJudgedByItsBeginning(t *testing.T) {
	for key, want := range map[string]string{"/a": "key:/a", "/secret/\xff": "prefix:/secret/", "\xff": "prefix:", "ключ\xd0": "prefix:ключ", "\ufffd": "key:\ufffd"} {
		if got := keyResource([]byte(key)); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
}

func TestWhoCancelsIsNotWaitedForAndToldThatItMayHappenYet(t *testing.T) {
	box, _, g := newKeys(t, nil)
	box.deaf = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.order(ctx, coord.KindBarrier, nil, nil); !errors.Is(err, errOrder) || !strings.Contains(err.Error(), "may do it yet") {
		t.Errorf("%v", err)
	}
}
