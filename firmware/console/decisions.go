package console

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/access"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/state"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

// Decider is what the console asks of the box about decisions; *site.Site is one.
type Decider interface {
	Decisions() (open []site.DecisionView, ended []site.Outcome)
	Decide(ctx context.Context, d *coord.Decision) (site.Outcome, error)
	Word(ctx context.Context, id coord.Digest, yes bool) error
	State() *state.Machine
}

const (
	// decideTimeMax is how long a request waits for the end of what it proposed: as long as boxes take that judge by themselves. Then
	// it is told that the decision waits.
	decideTimeMax = 3 * time.Second
	// wordTimeMax is how long a word may take to be ordered.
	wordTimeMax = 8 * time.Second
)

// endedMax is how many decisions that ended the page lists.
const endedMax = 20

// decisionsPage is what the page of decisions shows.
type decisionsPage struct {
	Open  []site.DecisionView
	Ended []site.Outcome
}

func (c *Console) decisionsData(*look) (any, error) {
	d := &decisionsPage{}
	d.Open, d.Ended = c.cfg.Site.Decisions()
	d.Ended = d.Ended[:min(len(d.Ended), endedMax)]
	return d, nil
}

func (c *Console) apiDecisions(w http.ResponseWriter, _ *http.Request) {
	open, ended := c.cfg.Site.Decisions()
	writeJSON(w, api.Decisions{Open: open, Ended: ended})
}

// apiDecision shows one decision and what it writes. Documents have what is for nobody's eyes, such as operators' sealed keys; so it is for
// who stands at the box.
func (c *Console) apiDecision(w http.ResponseWriter, r *http.Request) {
	st := c.cfg.Site.State()
	id, err := findDecision(st, r.PathValue("id"))
	if err != nil {
		apiError(w, http.StatusNotFound, err.Error())
		return
	}
	o, ended := st.Decision(id)
	answer := api.Decision{Ended: ended}
	if o != nil {
		open, _ := c.cfg.Site.Decisions()
		for i := range open {
			if open[i].ID == id {
				answer.Open = &open[i]
			}
		}
		for i := range o.Decision.Writes {
			x := &o.Decision.Writes[i]
			doc, ok := st.Doc(x.Key)
			if x.Key == coord.DocMembers && !ok { // the list that the site was founded with is no document
				if doc.Value, err = json.Marshal(st.Members()); err != nil {
					apiError(w, http.StatusInternalServerError, err.Error())
					return
				}
			}
			answer.Documents = append(answer.Documents, api.DecisionDocument{Key: x.Key, Now: doc.Value, Next: x.Value})
		}
		for _, d := range append([]*coord.Decision{o.Decision}, o.Others...) {
			answer.Authority = append(answer.Authority, d.Authority)
		}
	}
	if answer.Open == nil && answer.Ended == nil { // it ended while we looked
		apiError(w, http.StatusNotFound, site.ErrNoDecision.Error())
		return
	}
	writeJSON(w, answer)
}

// findDecision takes an id, or so many of its first digits that only one decision has them.
func findDecision(st *state.Machine, text string) (coord.Digest, error) {
	id, ok := st.FindDecision(text)
	if !ok {
		return id, fmt.Errorf("no decision that this box knows, or more than one, has an id that begins with %q", text)
	}
	return id, nil
}

// decisionActs are the words of operators on this box, and what they propose.
func (c *Console) decisionActs() []*Act {
	resource := func(p Params) string {
		if id, err := findDecision(c.cfg.Site.State(), p["id"]); err == nil {
			p["id"] = id.String() // what is recorded is the whole id
		}
		return "decision:" + p["id"]
	}
	word := func(yes bool) func(context.Context, *Caller, Params) (any, error) {
		return func(ctx context.Context, x *Caller, p Params) (any, error) {
			id, err := findDecision(c.cfg.Site.State(), p["id"])
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBad, err)
			}
			if open, _ := c.cfg.Site.State().Decision(id); yes && open != nil {
				if err := c.mayVouch(x, open.Decision); err != nil {
					return nil, err
				}
			}
			ctx, cancel := context.WithTimeout(ctx, wordTimeMax)
			defer cancel()
			err = c.cfg.Site.Word(ctx, id, yes)
			if errors.Is(err, site.ErrNoDecision) || errors.Is(err, site.ErrDecision) {
				err = fmt.Errorf("%w: %w", ErrBad, err)
			}
			return map[string]string{"id": id.String()}, err
		}
	}
	return []*Act{
		{Path: "/decisions/{id}/approve", Action: "decision.approve", Resource: resource, Signed: true, Back: "/decisions", Run: word(true)},
		{Path: "/decisions/{id}/refuse", Action: "decision.refuse", Resource: resource, Signed: true, Back: "/decisions", Run: word(false)},
		{
			Path: "/decisions/propose", Action: "decision.propose", Signed: true, Back: "/",
			Resource: func(p Params) string {
				x, err := api.ReadProposal(p["proposal"])
				if err != nil {
					return ""
				}
				return "decision:" + x.Kind + " " + x.Subject
			},
			Run: func(ctx context.Context, x *Caller, p Params) (any, error) {
				proposal, err := api.ReadProposal(p["proposal"])
				if err != nil {
					return nil, fmt.Errorf("%w: %w", ErrBad, err)
				}
				var nonce [8]byte
				_, _ = rand.Read(nonce[:]) // never fails
				st := c.cfg.Site.State()
				d := proposal.Decision(x.Principal, binary.BigEndian.Uint64(nonce[:]), st)
				if err := c.mayVouch(x, d); err != nil {
					return nil, err
				}
				return c.decide(ctx, d)
			},
		},
	}
}

// mayVouch says why somebody may not give this box's word for a decision, by approving or by proposing it: a word is as good as asking for
// the decision, on a site of one box it is all that is needed. So who may not ask for one of its kind may not give it, nor who may not ask for this
// one; what this release does not know takes somebody at the box; a token is not for what says who may do what.
func (c *Console) mayVouch(x *Caller, d *coord.Decision) error {
	if x.Local || c.cfg.Access == nil {
		return nil
	}
	if x.Token != "" {
		if a, ok := access.ParseAction(d.Kind); !ok || a.Class() >= access.ClassGovern {
			return fmt.Errorf("%w: a token does not approve %s", ErrBad, d.Kind)
		}
	} else if ok, why := c.cfg.Access.May(x.Principal, d.Kind, ""); !ok {
		return fmt.Errorf("%w: who may not ask for %s may not approve it: %s", ErrBad, d.Kind, why)
	}
	if err := c.cfg.Access.MayAsk(x.Principal, x.Token, d); err != nil {
		return fmt.Errorf("%w: who may not ask for it may not approve it: %w", ErrBad, err)
	}
	return nil
}

// decide has the site decide d, and gives its id and how it ended; ErrLater when it waits for words of other boxes.
func (c *Console) decide(ctx context.Context, d *coord.Decision) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeMax)
	defer cancel()
	o, err := c.cfg.Site.Decide(ctx, d)
	id := d.Digest(c.cfg.Site.View().Site)
	switch {
	case errors.Is(err, site.ErrWaits):
		return map[string]string{"id": id.String()}, fmt.Errorf("%w: %w", ErrLater, err)
	case errors.Is(err, site.ErrDecision), errors.Is(err, site.ErrStale), errors.Is(err, site.ErrRefused), errors.Is(err, site.ErrNoRoom):
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	case err != nil:
		return nil, err
	}
	return map[string]string{"id": id.String(), "outcome": o.Outcome.String()}, nil
}
