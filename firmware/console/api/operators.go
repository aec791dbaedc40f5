package api

import "time"

// Operators answers /api/v1/operators.
type Operators struct {
	Operators []Operator `json:"operators"`
}

// Operator is a person who may log in. Key is the public key, PKIX DER.
type Operator struct {
	Name       string    `json:"name"`
	Key        []byte    `json:"key"`
	Created    time.Time `json:"created"`
	Disabled   bool      `json:"disabled"`
	MustChange bool      `json:"must_change"`
}
