package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/site"
	"github.com/holdfast-edge/holdfast/coord/trust/suspicion"
	"github.com/holdfast-edge/holdfast/firmware/console/api"
)

func (c *Console) apiTrust(w http.ResponseWriter, _ *http.Request) {
	v := c.cfg.Site.View()
	writeJSON(w, api.Trust{Site: v.Site, Taken: v.Taken, Members: v.Trust})
}

// pageEvidence is how much the page lists: of four liars in a site of 13, some of each.
const pageEvidence = 16

// trustPage is what the page of trust shows.
type trustPage struct {
	Trust         trustRows
	Evidence      []lieRow
	EvidenceMore  uint64
	EvidenceError error
}

type lieRow struct {
	coord.Finding
	Rule coord.Rule
}

func (c *Console) trustData(l *look) (any, error) {
	d := &trustPage{Trust: trustOf(l.View)}
	d.evidence(c.cfg.Site)
	return d, nil
}

func (d *trustPage) evidence(s Site) {
	x, err := s.Evidence()
	if err != nil {
		d.EvidenceError = err
		return
	}
	d.EvidenceMore = x.More
	for i := range x.Findings {
		if i == pageEvidence {
			d.EvidenceMore += uint64(len(x.Findings) - i)
			break
		}
		rule, _ := coord.Conflict(&x.Findings[i].A, &x.Findings[i].B, x.Findings[i].TermRounds)
		d.Evidence = append(d.Evidence, lieRow{x.Findings[i], rule})
	}
}

// trustRows is what this box thinks of the members: those against whom something is held, and the names of the others.
type trustRows struct {
	Held []trustRow
	Fine string
}

type trustRow struct {
	site.TrustView
	Suspect      bool
	Forgiven, By string
}

func trustOf(v *site.View) (rows trustRows) {
	var fine []string
	for i := range v.Trust {
		t := &v.Trust[i]
		if t.Level == suspicion.Fine && len(t.Why) == 0 && len(t.SuspectedBy) == 0 {
			fine = append(fine, nameOf(v, t.Box))
			continue
		}
		row := trustRow{TrustView: *t, Suspect: t.Level == suspicion.Suspect}
		if t.FineIn > 0 {
			row.Forgiven = t.FineIn.Round(time.Second).String()
		}
		by := make([]string, len(t.SuspectedBy))
		for k, id := range t.SuspectedBy {
			by[k] = nameOf(v, id)
		}
		row.By = strings.Join(by, ", ")
		rows.Held = append(rows.Held, row)
	}
	rows.Fine = strings.Join(fine, ", ")
	return rows
}
