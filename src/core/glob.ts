/**
 * Globs over channel ids: `*` is any run of characters within one segment, `?` one of them, `**` any run across segments.
 *
 * Matched by dynamic programming over the pattern (time ≤ pattern × text): a regular expression made of a pattern with
 * many stars would take exponential time, and patterns come from the socket as well as from the config.
 */
export function globMatches(pattern: string, text: string): boolean {
  const tokens = pattern.match(/\*\*|./gsu) ?? [];
  // reached[i]: the first i tokens match the text that has been consumed.
  let reached = tokens.map(() => false);
  reached.unshift(true);
  closeOverStars(tokens, reached);
  for (const character of text) {
    const next = reached.map(() => false);
    tokens.forEach((token, i) => {
      if (!reached[i] && !(isStar(token) && reached[i + 1])) return;
      if (token === '**' || (token === '*' && character !== '/')) next[i + 1] = true;
      else if (token === character || (token === '?' && character !== '/')) next[i + 1] = true;
    });
    closeOverStars(tokens, next);
    reached = next;
  }
  return reached[tokens.length] === true;
}

function isStar(token: string): boolean {
  return token === '*' || token === '**';
}

/** A star also matches nothing. */
function closeOverStars(tokens: readonly string[], reached: boolean[]): void {
  tokens.forEach((token, i) => {
    if (isStar(token) && reached[i]) reached[i + 1] = true;
  });
}
