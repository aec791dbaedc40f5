package history

import (
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Check says what is wrong with an expression that is to be asked with Instant: its syntax, a function that there is not, a result that is
// neither a vector nor a number. Errors: ErrQuery.
func Check(expr string) error {
	if len(expr) > exprBytesMax {
		return fmt.Errorf("history: %w: longer than %d bytes", ErrQuery, exprBytesMax)
	}
	e, err := parser.ParseExpr(expr)
	if err != nil {
		return fmt.Errorf("history: %w: %w", ErrQuery, err)
	}
	if t := e.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return fmt.Errorf("history: %w: the expression gives a %s; a vector or a number is needed", ErrQuery, t)
	}
	return nil
}

// Use is a series that an expression asks for: its metric, the values that it wants of labels ("" of one that it does not compare for
// equality), and the labels that the expression's grouping and matching name.
type Use struct {
	Metric string
	Wants  map[string]string
	Groups []string
}

// Uses are what an expression asks for, in its order. Errors: ErrQuery.
func Uses(expr string) (list []Use, err error) {
	if err := Check(expr); err != nil {
		return nil, err
	}
	e, err := parser.ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("history: %w: %w", ErrQuery, err)
	}
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		u := Use{Wants: map[string]string{}}
		for _, m := range s.LabelMatchers {
			switch {
			case m.Name == model.MetricNameLabel:
				u.Metric = m.Value
			case m.Type == labels.MatchEqual:
				u.Wants[m.Name] = m.Value
			default:
				u.Wants[m.Name] = ""
			}
		}
		for _, above := range path {
			switch a := above.(type) {
			case *parser.AggregateExpr:
				u.Groups = append(u.Groups, a.Grouping...)
			case *parser.BinaryExpr:
				if a.VectorMatching != nil {
					u.Groups = append(u.Groups, a.VectorMatching.MatchingLabels...)
				}
			}
		}
		list = append(list, u)
		return nil
	})
	return list, nil
}
