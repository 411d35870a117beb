/** What both views of the logs page, live and history, are given by it. */

import type { ReactNode } from "react";
import type { Question } from "../question";
import type { Put } from "../parts/logrow";

export interface Props {
  question: Question;
  services: readonly string[] | undefined; // names of all; undefined until they are known
  put: Put;
  view: ReactNode; // the switch between the two
  filters: ReactNode;
}
