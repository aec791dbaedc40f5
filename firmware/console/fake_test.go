package console

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/wire"
	"github.com/holdfast-edge/holdfast/firmware/metrics"
)

// fakeSite is a box whose answers a test sets.
type fakeSite struct {
	view   site.View
	top    site.Top
	topErr error
	keys   map[string]string
	log    []*site.LogBlock
	lies   []coord.Finding
	hangs  chan struct{} // not nil: until it is closed
	fakeDecider
}

func (f *fakeSite) Evidence() (*coord.Exhibit, error) {
	return &coord.Exhibit{Site: f.view.Site, Findings: append([]coord.Finding{}, f.lies...)}, nil
}

func (f *fakeSite) Prove(ctx context.Context, key, nonce []byte) (*coord.ReadProof, error) {
	v, ok := f.keys[string(key)]
	if !ok {
		<-ctx.Done() // no quorum
		return nil, ctx.Err()
	}
	return &coord.ReadProof{Site: f.view.Site, Epoch: 1, Reading: coord.Reading{Key: key, Nonce: nonce, Found: true, Value: []byte(v)}}, nil
}

func (f *fakeSite) View() *site.View {
	if f.hangs != nil {
		<-f.hangs
	}
	v := f.view
	return &v
}

func (f *fakeSite) Top(n int) (site.Top, error) {
	t := f.top
	t.Top = t.Top[:min(n, len(t.Top))]
	return t, f.topErr
}

func (f *fakeSite) Get(key []byte) ([]byte, uint64, bool, error) {
	v, ok := f.keys[string(key)]
	return []byte(v), 7, ok, nil
}

func (f *fakeSite) Log(from, to uint64, fn func(*site.LogBlock) error) error {
	for _, b := range f.log {
		if b.Block.Height >= from && b.Block.Height <= to {
			if err := fn(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func servingSite() *fakeSite {
	id := func(b byte) coord.BoxID { return coord.BoxID{b, b, b, b, b, b, b, b} }
	member := func(i int, up bool) site.MemberView {
		name := "box-" + string(rune('0'+i))
		return site.MemberView{
			Member: coord.Member{ID: id(byte(i + 1)), Name: name, Console: "127.0.0.1:808" + string(rune('0'+i)), Native: "127.0.0.1:1"},
			Index:  i, Self: i == 0, Up: up, Height: 1234, Round: 1300, RTT: 350 * time.Microsecond,
		}
	}
	f := &fakeSite{
		view: site.View{
			ID: id(1), Name: "box-0", Site: coord.SiteID{9}, Version: "test", N: 4, F: 1, Quorum: 3,
			Members: []site.MemberView{member(0, true), member(1, true), member(2, true), member(3, false)},
			Leader:  id(2), Height: 1234, Round: 1300, Applied: 76118, Rate: 1500.4, LogFrom: 3,
			Serving: true, Verdict: "The site orders writes; box-3 is down.",
			Blocks:   []site.BlockView{{Height: 1234, Leader: id(2), Messages: 100, Batches: 2, Time: time.Unix(1e9, 0)}},
			Counters: site.Counters{Blocks: 1200, EmptyBlocks: 10, LatencyCount: 3, LatencySum: 9 * time.Millisecond, SentBytes: 42},
		},
		top:  site.Top{Total: 12, Distinct: 2, Top: []site.Count{{Object: 18446744073709551615, Count: 10}, {Object: 5, Count: 2}}},
		keys: map[string]string{"/config/ttl": "60", "a//b/../c": "odd", "<script>": "<b>"},
	}
	f.fakeDecider = newDecider()
	f.view.Counters.LatencyBuckets[2] = 2
	f.view.Counters.LatencyBuckets[len(site.LatencyBounds)] = 1
	f.log = []*site.LogBlock{logBlock(3, "put k v"), logBlock(4, "observe"), logBlock(5, "bad")}
	return f
}

// logBlock is a block of one batch.
func logBlock(height uint64, what string) *site.LogBlock {
	return &site.LogBlock{
		Block:   &coord.Block{Height: height, Round: height + 1, Refs: []coord.BatchRef{{Digest: coord.Digest{7}}}},
		Digest:  coord.Digest{byte(height)},
		Batches: []*coord.Batch{{Author: coord.BoxID{1}, Seq: 5, Count: 1, Body: body(what)}},
		Cert:    &coord.Cert{Kind: coord.VoteFinalize, Round: height + 1, Sigs: []coord.VoteSig{{Voter: 0}, {Voter: 2}, {Voter: 3}}},
	}
}

// body is a batch's body in the wire's encoding.
func body(what string) []byte {
	var c coord.Columns
	switch what {
	case "put k v":
		c.Add(coord.KindPut, 0xfedcba9876543210, 1, 1_000, []byte("k"), []byte("v"))
	case "observe":
		c.Add(coord.KindObserve, 1, 1, 1_000, binary.BigEndian.AppendUint64(nil, 77), nil)
		c.Add(coord.KindObserve, 1, 2, 1<<62, binary.BigEndian.AppendUint64(nil, 78), binary.AppendUvarint(nil, 300))
	default:
		return []byte(what)
	}
	return wire.NewBodyEncoder().AppendBody(nil, &c)
}

func measures(t *testing.T, s Site) *metrics.Metrics {
	t.Helper()
	m, err := metrics.New(metrics.Sources{View: s.View, Ready: func() bool { return s.View().Serving }, Root: t.TempDir(), Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newConsole(t *testing.T, s Site, change ...func(*Config)) *Console {
	t.Helper()
	cfg := Config{Site: s, Metrics: measures(t, s), Alarms: alarmsOf(t, s), Updates: changesOver(), Audit: auditLog(t), Desk: newDesk(t).Desk, ViewOpen: true, MetricsOpen: true, Record: unrecorded, Hosts: []string{"Shop.Example"}, Logger: slog.New(slog.DiscardHandler)}
	for _, fn := range change {
		fn(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, c *Console, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "127.0.0.1:8080"
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w
}

func getJSON(t *testing.T, c *Console, path string, code int, into any) {
	t.Helper()
	w := get(t, c, path)
	if w.Code != code || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %s %s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if err := json.NewDecoder(w.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// textOf is what a reader without script sees of a page: no tags, scripts or styles.
func textOf(html string) string {
	for _, tag := range []string{"script", "style"} {
		for {
			from, to := strings.Index(html, "<"+tag), strings.Index(html, "</"+tag+">")
			if from < 0 || to < from {
				break
			}
			html = html[:from] + html[to+len(tag)+3:]
		}
	}
	var b strings.Builder
	for i, part := range strings.Split(html, "<") {
		if _, text, ok := strings.Cut(part, ">"); ok && i > 0 {
			b.WriteString(text)
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
