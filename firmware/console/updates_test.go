package console

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
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
