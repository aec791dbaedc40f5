package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// fakeDecider is a site that decides as a test says, and a state with one open decision.
type fakeDecider struct {
	state *state.Machine
	err   error // of Word and Decide
	asked *[]string
}

func openDecision() *coord.Decision {
	return &coord.Decision{
		Kind: "setting.change", Subject: "joins", Principal: "operator:ann", Reason: "a new shop", Nonce: 1,
		Writes: []coord.DocWrite{{Key: "setting/joins", Value: []byte(`{"approve":"token"}`)}}, Authority: []byte{0, 1},
	}
}

func newDecider() fakeDecider {
	st, err := state.New(state.NewMemBackend())
	if err != nil {
		panic(err)
	}
	ms := &coord.Members{Site: coord.SiteID{9}, Epoch: 1}
	for i := range byte(4) {
		ms.List = append(ms.List, coord.Member{ID: coord.BoxID{i + 1}, Name: fmt.Sprint("box-", i)})
	}
	st.SetSite(ms, coord.BoxID{})
	cols := new(coord.Columns)
	cols.Add(coord.KindDecide, 0, 0, 0, nil, state.AppendProposal(nil, openDecision()))
	st.Begin(&coord.Block{Height: 1})
	st.Batch(coord.BoxID{2}, 1, 0, cols, nil)
	st.End()
	return fakeDecider{state: st, asked: new([]string)}
}

func (f fakeDecider) State() *state.Machine { return f.state }

func (f fakeDecider) Decisions() (open []site.DecisionView, ended []site.Outcome) {
	for _, o := range f.state.Open() {
		open = append(open, site.DecisionView{ID: o.ID, Kind: o.Decision.Kind, Yes: o.Yes, Needed: 3, Waits: "an operator must approve it on this box"})
	}
	return open, []site.Outcome{{ID: coord.Digest{7}, Kind: "role.grant", Outcome: state.Refused}}
}

func (f fakeDecider) Word(_ context.Context, id coord.Digest, yes bool) error {
	*f.asked = append(*f.asked, fmt.Sprint(id.Short(), " ", yes))
	return f.err
}

func (f fakeDecider) Decide(_ context.Context, d *coord.Decision) (site.Outcome, error) {
	*f.asked = append(*f.asked, fmt.Sprint(d.Kind, " by ", d.Principal, " writes ", d.Writes[0].Key, " of ", d.Writes[0].Was))
	return site.Outcome{Outcome: state.TookEffect}, f.err
}

func postOn(c *Console, path, body, network string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "s", Net: network})))
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w
}

func TestDecisionsAreShownAndTheirDocumentsOnTheSocketOnly(t *testing.T) {
	c := newConsole(t, servingSite())
	var all api.Decisions
	getJSON(t, c, "/api/v1/decisions", 200, &all)
	id := openDecision().Digest(coord.SiteID{9})
	if len(all.Open) != 1 || all.Open[0].ID != id || len(all.Ended) != 1 || all.Ended[0].Outcome != state.Refused {
		t.Fatalf("%+v", all)
	}
	path := "/api/v1/decisions/" + id.Short()
	if w := get(t, c, path); w.Code != http.StatusForbidden {
		t.Errorf("over the network: %d", w.Code)
	}
	var one api.Decision
	w := getOn(t, c, path, "unix")
	if err := json.Unmarshal(w.Body.Bytes(), &one); err != nil || one.Open == nil || one.Open.ID != id || len(one.Documents) != 1 ||
		string(one.Documents[0].Next) != `{"approve":"token"}` || one.Documents[0].Now != nil || len(one.Authority) != 1 {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	for _, odd := range []string{"ffff", "f", "%20", id.String() + "0"} {
		if w := getOn(t, c, "/api/v1/decisions/"+odd, "unix"); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", odd, w.Code)
		}
	}
}

func TestAnOperatorAtTheBoxGivesItsWordAndProposes(t *testing.T) {
	s := servingSite()
	id := openDecision().Digest(coord.SiteID{9})
	post := func(path, body string) (int, string) {
		w := postOn(newConsole(t, s), "/api/v1/decisions/"+path, body, "unix")
		return w.Code, w.Body.String()
	}
	proposal := `{"proposal": "{\"kind\":\"setting.change\",\"subject\":\"joins\",\"writes\":[{\"key\":\"setting/joins\",\"value\":\"x\"}]}"}`
	for _, c := range []struct {
		name, path, body string
		err              error
		code             int
		text, asked      string
	}{
		{"approve", id.String() + "/approve", "{}", nil, 200, id.String(), id.Short() + " true"},
		{"refuse by its first digits", id.Short() + "/refuse", "{}", nil, 200, id.String(), id.Short() + " false"},
		{"an id of none", "ffffffff/approve", "{}", nil, 400, "no decision that this box knows", ""},
		{"too late", id.String() + "/approve", "{}", site.ErrNoDecision, 400, "no such decision is open", id.Short() + " true"},
		{"propose", "propose", proposal, nil, 200, "took effect", "setting.change by operator:root writes setting/joins of 0"},
		{"propose what waits", "propose", proposal, site.ErrWaits, 202, "waits for other boxes", "setting.change by operator:root writes setting/joins of 0"},
		{"propose what is overtaken", "propose", proposal, site.ErrStale, 400, "overtaken", "setting.change by operator:root writes setting/joins of 0"},
		{"propose nothing", "propose", `{"proposal":"{}"}`, nil, 400, "it writes nothing", ""},
		{"propose nonsense", "propose", `{"proposal":"["}`, nil, 400, "not a proposal", ""},
	} {
		s.err, *s.asked = c.err, nil
		code, text := post(c.path, c.body)
		if asked := strings.Join(*s.asked, "; "); code != c.code || !strings.Contains(text, c.text) || asked != c.asked {
			t.Errorf("%s: %d %s, asked %q", c.name, code, text, asked)
		}
	}
	if w := postOn(newConsole(t, s), "/api/v1/decisions/"+id.String()+"/approve", "{}", "tcp"); w.Code != http.StatusUnauthorized {
		t.Errorf("over the network without a login: %d", w.Code)
	}
}
