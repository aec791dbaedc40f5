package console

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/release"
	"github.com/holdfast-edge/holdfast/coord/rollout"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// installing is a box that changes over.
type installing struct {
	Updates
	view api.Update
}

func (i *installing) View() *api.Update { v := i.view; return &v }

func (i *installing) Bundle(id coord.Digest) (io.ReadSeekCloser, error) {
	if id == (coord.Digest{}) {
		return nil, fs.ErrNotExist
	}
	return nopCloser{strings.NewReader("a bundle of some bytes")}, nil
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func request(method, path string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, path, body)
	r.Host = "127.0.0.1:8080"
	return r
}

func answerTo(c *Console, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w
}

func changesOver() *installing {
	p := &rollout.Plan{Format: 1, Number: 3, Version: "1.2", State: rollout.Stopped, Why: "box-1: it did not come up", Boxes: []rollout.Box{
		{ID: coord.BoxID{1}, Name: "box-0", Step: rollout.Good}, {ID: coord.BoxID{2}, Name: "box-1", Step: rollout.Failed, Why: "it did not come up"}, {ID: coord.BoxID{3}, Name: "box-2", Step: rollout.Waits},
	}}
	return &installing{view: api.Update{
		Version: "1.1", Board: "qemu-virt", Arch: "arm64", Slot: "a", Keys: []api.UpdateKey{{Name: "first", ID: "0011223344556677"}}, Plan: p, Turn: -1,
		Slots: []api.UpdateSlot{{Slot: "a", Runs: true, Version: "1.1", State: "good"}, {Slot: "b", Version: "1.2", Bundle: strings.Repeat("ab", 32), State: "given up", Reason: "the site was not well with it"}},
		Job:   &api.UpdateJob{Phase: "back", Version: "1.2", Why: "the site was not well with it"},
	}}
}

func TestTheUpdatePageSaysHowEveryBoxIsAndWhyOneWentBack(t *testing.T) {
	c := newConsole(t, servingSite())
	body := getOn(t, c, "/update", "unix").Body.String()
	for _, want := range []string{"1.2", "stopped", "box-1: it did not come up", "<td>good</td>", "<td>waits</td>", "Given up: the site was not well with it", "0011223344556677"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestABundleIsServedInPartsAndToFewAtATime(t *testing.T) {
	c := newConsole(t, servingSite())
	id := strings.Repeat("ab", 32)
	r := request(http.MethodGet, "/api/v1/update/bundles/"+id, nil)
	r.Header.Set("Range", "bytes=2-7")
	if w := answerTo(c, r); w.Code != http.StatusPartialContent || w.Body.String() != "bundle" {
		t.Errorf("a part: %d %q", w.Code, w.Body)
	}
	for path, code := range map[string]int{strings.Repeat("00", 32): http.StatusNotFound, "ab": http.StatusBadRequest} {
		if w := answerTo(c, request(http.MethodGet, "/api/v1/update/bundles/"+path, nil)); w.Code != code {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for range bundlesMax {
		c.bundles <- struct{}{}
	}
	if w := answerTo(c, request(http.MethodGet, "/api/v1/update/bundles/"+id, nil)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d", w.Code)
	}
}

func TestNobodyGivesABoxFirmwareWithoutTheRight(t *testing.T) {
	c := newConsole(t, servingSite())
	r := request(http.MethodPost, "/api/v1/update/upload", bytes.NewReader([]byte("holdfast bundle1")))
	if w := answerTo(c, r); w.Code != http.StatusUnauthorized {
		t.Errorf("nobody gave a box firmware: %d %s", w.Code, w.Body)
	}
}

// taking is a box that takes a bundle, or says why not.
type taking struct {
	*installing
	took []byte
	err  error
}

func (b *taking) Take(_ context.Context, from io.Reader, _ bool) (*release.Head, error) {
	if b.err != nil {
		return nil, b.err // as for a bad signature, before all of it is read
	}
	var err error
	if b.took, err = io.ReadAll(from); err != nil {
		return nil, err
	}
	return new(release.Head), nil
}

func TestABundleIsSentFromTheUpdatePage(t *testing.T) {
	d := newDesk(t)
	box := &taking{installing: changesOver()}
	c, err := New(Config{
		Site: servingSite(), Metrics: measures(t, servingSite()), Alarms: alarmsOf(t, servingSite()), Audit: auditLog(t), Desk: d.Desk, Updates: box, Record: d.record,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b := (&guarded{c, d}).browser()
	bundle := bytes.Repeat([]byte("holdfast bundle1"), 100_000)
	send := func(from *browser, parts ...string) *httptest.ResponseRecorder {
		var body bytes.Buffer
		m := multipart.NewWriter(&body)
		for i := 0; i < len(parts); i += 2 {
			create := m.CreateFormField
			if parts[i] == "bundle" {
				create = func(name string) (io.Writer, error) { return m.CreateFormFile(name, "1.2.hfb") }
			}
			w, err := create(parts[i])
			if err == nil {
				_, err = io.WriteString(w, parts[i+1])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		r := request(http.MethodPost, "/update/upload", &body)
		for k, v := range map[string]string{"Accept": "text/html", "Content-Type": m.FormDataContentType(), "Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"} {
			r.Header.Set(k, v)
		}
		for k, v := range from.cookies {
			r.AddCookie(&http.Cookie{Name: k, Value: v})
		}
		return answerTo(c, r)
	}
	if w := send(b, "csrf", "x", "bundle", string(bundle)); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/setup" {
		t.Errorf("nobody: %d to %q", w.Code, w.Header().Get("Location"))
	}
	b.setUp(t, "ann")
	found := regexp.MustCompile(`action="/update/upload" enctype="multipart/form-data"><input type="hidden" name="csrf" value="([^"]+)"`).FindStringSubmatch(b.get("/update").Body.String())
	if found == nil {
		t.Fatal("the page has no such form")
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"no secret":     send(b, "bundle", string(bundle)),
		"another":       send(b, "csrf", "x", "bundle", string(bundle)),
		"a long secret": send(b, "csrf", strings.Repeat("x", 10_000), "bundle", string(bundle)),
	} {
		if w.Code != http.StatusForbidden || box.took != nil {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"no file":    send(b, "csrf", found[1]),
		"no name":    send(b, "csrf", found[1], "bundl", "x"),
		"not a form": b.do("POST", "/update/upload", nil),
	} {
		if w.Code != http.StatusBadRequest || box.took != nil {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := send(b, "csrf", found[1], "bundle", string(bundle)); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/update" || !bytes.Equal(box.took, bundle) {
		t.Errorf("%d to %q with %d of %d bytes", w.Code, w.Header().Get("Location"), len(box.took), len(bundle))
	}
	box.err = release.ErrSignature
	if w := send(b, "csrf", found[1], "bundle", string(bundle)); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "not signed with a key that is trusted here") || !strings.Contains(w.Body.String(), "Who signs firmware") {
		t.Errorf("a bundle of somebody else: %d\n%s", w.Code, textOf(w.Body.String()))
	}
}
