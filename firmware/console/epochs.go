package console

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trust/join"
)

// chain is how the site's members became those of now, as far back as the box has kept it without a gap.
func (c *Console) chain() (*join.Chain, error) {
	v := c.cfg.Site.View()
	now := &coord.Members{Site: v.Site, Epoch: v.Epoch}
	for i := range v.Members {
		now.List = append(now.List, v.Members[i].Member)
	}
	if c.cfg.Past == nil {
		return &join.Chain{From: now}, nil
	}
	past, err := c.cfg.Past()
	if err != nil {
		return nil, err
	}
	first := len(past)
	for want := now.Epoch; first > 0 && past[first-1].Next.Epoch >= want; first-- {
		if past[first-1].Next.Epoch == want {
			want--
		}
	}
	chain := &join.Chain{From: now}
	for i, h := range past[first:] {
		if h.Next.Epoch > now.Epoch {
			break // it has begun since the view was made
		}
		if i == 0 {
			chain.From = h.Members
		}
		chain.Steps = append(chain.Steps, join.PastOf(h).Step)
	}
	return chain, nil
}

func (c *Console) apiMembersHistory(w http.ResponseWriter, r *http.Request) {
	chain, err := c.chain()
	if err != nil {
		c.failed(w, r, err)
		return
	}
	writeJSON(w, chain)
}

// apiMembersOf answers with the member set of one epoch, as site.json has it.
func (c *Console) apiMembersOf(w http.ResponseWriter, r *http.Request, epoch string) {
	n, err := strconv.ParseUint(epoch, 10, 64)
	if err != nil {
		apiError(w, http.StatusBadRequest, "epoch must be a number")
		return
	}
	chain, err := c.chain()
	if err != nil {
		c.failed(w, r, err)
		return
	}
	if chain.From.Epoch == n {
		writeJSON(w, chain.From)
		return
	}
	for i := range chain.Steps {
		if chain.Steps[i].Next.Epoch == n {
			writeJSON(w, chain.Steps[i].Next)
			return
		}
	}
	apiError(w, http.StatusNotFound, fmt.Sprintf("this box knows the members of epochs %d to %d", chain.From.Epoch, chain.Last().Epoch))
}
