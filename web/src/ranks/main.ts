import { adopt, register } from "../given";
import { RanksView } from "./RanksView";
import css from "./ranks.css";

adopt(css);
register("ranks", RanksView);
