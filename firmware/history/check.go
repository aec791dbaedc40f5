package history

import (
	"fmt"

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
